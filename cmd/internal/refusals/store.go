package refusals

import (
	"container/heap"
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Refusal is one row: the refusals of one device for one reason.
type Refusal struct {
	// Number is that of the last refusal of the row. All refusals since the start are numbered,
	// so a larger number is a newer one.
	Number uint64 `json:"number"`
	// Count is how many refusals the row stands for. First and Last are the times of the first and
	// the last.
	Count uint64    `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// The other fields describe the last refusal. A field that is not known is empty.
	Reason proxy.Reason `json:"reason"`
	Detail string       `json:"detail,omitempty"`
	// Code is the code in the CONNACK, in the numbers of Version; 0 if there was no CONNACK.
	Code    uint8  `json:"code,omitempty"`
	Version string `json:"version,omitempty"` // of MQTT
	// Subject is the device that the token belongs to, if that is known, good or not. For a wrong
	// password it is only the device that the client claims to be.
	Subject     string         `json:"subject,omitempty"`
	ClientID    string         `json:"client_id,omitempty"`
	Address     netip.AddrPort `json:"address,omitzero"`
	Listener    string         `json:"listener"`
	Fingerprint string         `json:"fingerprint,omitempty"` // of the token
}

// Store keeps refusals. Its methods may be called from many goroutines.
type Store struct {
	counts counts

	mu      sync.Mutex
	limit   int
	number  uint64
	rows    []*row
	byKey   map[key]*row
	parties map[partyKey]*party
	shelves [2]shelf // of parties without a known token, and with one
	changed chan struct{}
}

// key is what a row is about.
type key struct {
	party  partyKey
	device string // client id, if the party is a network
	reason proxy.Reason
}

// partyKey names a party by subject or by network.
type partyKey struct {
	subject string
	network netip.Prefix
}

// row has the newest state of a Refusal, which is never changed but replaced.
type row struct {
	*Refusal
	key     key
	party   *party
	element *list.Element // in party.rows
	index   int           // in Store.rows
	size    int
}

// averageBytes times the limit is the size that all rows may have together. rowBytes is the size of
// a row without its texts: its fields, its share of the maps, and a party of its own.
const (
	averageBytes = 1024
	rowBytes     = 768
)

// New returns a Store for at most limit rows, which take limit times 1 KiB of memory at most. With
// 0 or less it keeps no rows and only counts.
func New(limit int) *Store {
	return &Store{limit: max(limit, 0), byKey: make(map[key]*row), parties: make(map[partyKey]*party)}
}

// SetLimit changes the largest number of rows. Rows beyond it are forgotten.
func (s *Store) SetLimit(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = max(limit, 0)
	s.shrink()
}

// Add keeps and counts a refusal. It ignores connections that asked for nothing, such as those of
// load balancers. It is quick enough for proxy.Trace.
func (s *Store) Add(r proxy.Refusal) {
	if r.Reason.Info().Fault == proxy.FaultNone {
		return
	}
	now := time.Now()
	s.counts.add(r.Reason, now)
	next := &Refusal{
		Count: 1, First: now.UTC(), Last: now.UTC(), Reason: r.Reason, Detail: detailOf(r), Version: r.Version(),
		Subject: bounded(r.Subject, maxName), ClientID: bounded(r.ClientID, maxName), Address: r.Addr,
		Listener: r.Listener, Fingerprint: r.Fingerprint,
	}
	if r.Sent {
		next.Code = uint8(r.Code)
	}
	s.put(next)
}

func (s *Store) put(next *Refusal) {
	k := keyOf(next)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	next.Number = s.number
	if s.limit > 0 {
		if known := s.byKey[k]; known != nil {
			s.renew(known, next)
		} else {
			s.insert(k, next)
		}
		s.shrink()
	}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// keyOf returns what a refusal is about. Only a known token proves a subject: a client that sends a
// wrong password may be another device.
func keyOf(r *Refusal) key {
	if r.Subject != "" && r.Reason != proxy.Reason(authz.WrongPassword) {
		return key{party: partyKey{subject: r.Subject}, reason: r.Reason}
	}
	device := r.ClientID
	if r.Subject != "" {
		device = r.Subject
	}
	return key{party: partyKey{network: networkOf(r.Address)}, device: device, reason: r.Reason}
}

// networkOf returns the network whose owner is likely to have this address for itself.
func networkOf(a netip.AddrPort) netip.Prefix {
	bits := 32
	if a.Addr().Is6() {
		bits = 64
	}
	network, _ := a.Addr().WithZone("").Prefix(bits) // the zero value without an address
	return network
}

func (s *Store) insert(k key, next *Refusal) {
	p := s.parties[k.party]
	if p == nil {
		p = &party{key: k.party, shelf: &s.shelves[0]}
		if k.party.subject != "" {
			p.shelf = &s.shelves[1]
		}
		p.rows.Init()
		s.parties[k.party] = p
	}
	r := &row{Refusal: next, key: k, party: p, index: len(s.rows), size: sizeOf(next)}
	s.rows = append(s.rows, r)
	s.byKey[k] = r
	p.add(r)
}

func (s *Store) renew(known *row, next *Refusal) {
	next.First, next.Count = known.First, known.Count+1
	known.Refusal = next
	known.party.renew(known, sizeOf(next))
}

// shrink removes rows until those that are left are within the bounds.
func (s *Store) shrink() {
	weak, strong := &s.shelves[0], &s.shelves[1]
	room := s.limit * averageBytes
	for len(s.rows) > s.limit || weak.bytes+strong.bytes > room {
		from := strong
		if weak.rows > s.limit/2 || weak.bytes > room/2 || strong.rows == 0 {
			from = weak
		}
		s.remove(from.parties[0].oldest())
	}
}

func (s *Store) remove(r *row) {
	last := s.rows[len(s.rows)-1]
	s.rows[r.index], last.index = last, r.index
	s.rows[len(s.rows)-1] = nil
	s.rows = s.rows[:len(s.rows)-1]
	delete(s.byKey, r.key)
	if r.party.remove(r) {
		delete(s.parties, r.party.key)
	}
}

// Changed returns a channel that is closed at the next refusal. Call it before [Store.List], so
// that no refusal is missed. A flood of refusals closes channels as fast as they are asked for:
// wait a moment before you list again.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// snapshot returns all rows in no order. The Refusals must not be changed.
func (s *Store) snapshot() []*Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Refusal, len(s.rows))
	for i, r := range s.rows {
		all[i] = r.Refusal
	}
	return all
}

// party is the owner of rows: a subject or a network.
type party struct {
	key   partyKey
	shelf *shelf
	rows  list.List // of *row, the oldest first
	first uint64    // number of the oldest row, next to what Less compares
	index int       // in shelf.parties
}

func (p *party) oldest() *row { return p.rows.Front().Value.(*row) }

func (p *party) add(r *row) {
	r.element = p.rows.PushBack(r)
	p.shelf.rows++
	p.shelf.bytes += r.size
	if p.rows.Len() == 1 {
		p.first = r.Number
		heap.Push(p.shelf, p)
		return
	}
	p.settle()
}

// settle moves p to where it belongs among the parties after its rows have changed.
func (p *party) settle() {
	p.first = p.oldest().Number
	heap.Fix(p.shelf, p.index)
}

// renew makes r the newest row of p.
func (p *party) renew(r *row, size int) {
	p.rows.MoveToBack(r.element)
	p.shelf.bytes += size - r.size
	r.size = size
	p.settle()
}

// remove removes r and reports whether p has no rows now.
func (p *party) remove(r *row) (empty bool) {
	p.shelf.rows--
	p.shelf.bytes -= r.size
	if p.rows.Len() == 1 {
		heap.Remove(p.shelf, p.index)
		return true
	}
	p.rows.Remove(r.element)
	p.settle()
	return false
}

// shelf is a heap of parties. The first one is the next to lose a row.
type shelf struct {
	parties     []*party
	rows, bytes int
}

// Len, Less, Swap, Push and Pop are for package heap.
func (s *shelf) Len() int { return len(s.parties) }

func (s *shelf) Less(i, j int) bool {
	a, b := s.parties[i], s.parties[j]
	if a.rows.Len() != b.rows.Len() {
		return a.rows.Len() > b.rows.Len()
	}
	return a.first < b.first
}

func (s *shelf) Swap(i, j int) {
	s.parties[i], s.parties[j] = s.parties[j], s.parties[i]
	s.parties[i].index, s.parties[j].index = i, j
}

func (s *shelf) Push(x any) {
	p := x.(*party)
	p.index = len(s.parties)
	s.parties = append(s.parties, p)
}

func (s *shelf) Pop() any {
	last := len(s.parties) - 1
	p := s.parties[last]
	s.parties = slices.Delete(s.parties, last, last+1)
	return p
}
