package presence

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

const (
	// MaxSubjects is how many subjects, and how many token ids, are stored.
	MaxSubjects = 1_000_000
	// maxPending is how many subjects, and how many token ids, wait for the store at most.
	maxPending = 100_000
	// flushInterval is the time between two writes.
	flushInterval = 10 * time.Second
	// touchInterval is how often devices that stay connected are recorded as seen.
	touchInterval = time.Hour
)

// Options configure a [Recorder].
type Options struct {
	// Target returns where to record. If it returns another value than before, the recorder
	// changes to that at its next write.
	Target func() Target
	// Clients returns the live sessions; it is the method of proxy.Server.
	Clients func() iter.Seq[*proxy.Client]
	// Changed, if set, is called with the reason when the store can no longer be used, and with
	// nil when it can again.
	Changed func(fault error)
	// Aside, if set, is called after a damaged file was renamed to path because of err.
	Aside func(path string, err error)

	open       func(context.Context, Target) (store, error) // openStore if nil
	maxPending int                                          // maxPending if 0
	max        int                                          // MaxSubjects if 0
}

// Target is where to record: the SQLite file at Path, or the PostgreSQL database of the
// connection string in DSNFile. The zero value is nowhere.
type Target struct {
	Path    string
	DSNFile string
	// Proxy is the name of this proxy for the others that share the database.
	Proxy string
}

// Recorder records first and last seen. It is made by [New]. Its methods may be called by any
// number of goroutines.
type Recorder struct {
	options Options

	mu      sync.Mutex
	live    map[string]int // sessions of each subject
	pending *batch         // what is to be written
	writing *batch         // what is being written
	lost    int64

	flushing sync.Mutex // held by flush; guards target, file and unpruned
	target   Target
	file     os.FileInfo // of the store that is open; nil if it is not known
	unpruned int         // rows written since the store was pruned

	missed atomic.Bool // records were lost since all live sessions were written
	store  atomic.Pointer[opened]
	fault  atomic.Pointer[error]
}

// opened is a store that is open.
type opened struct{ store }

// New returns a recorder. Nothing is read or written before [Recorder.Run].
func New(o Options) *Recorder {
	if o.open == nil {
		o.open = func(ctx context.Context, t Target) (store, error) { return openStore(ctx, t, o.Aside) }
	}
	if o.maxPending == 0 {
		o.maxPending = maxPending
	}
	if o.max == 0 {
		o.max = MaxSubjects
	}
	r := &Recorder{options: o, live: make(map[string]int), pending: newBatch(), writing: newBatch()}
	r.fault.Store(&errNotOpen)
	return r
}

// errNotOpen is the fault until the store has been opened.
var errNotOpen = errors.New("it has not been opened yet")

// Opened records that the session of c has begun. It is a hook of proxy.Trace.
func (r *Recorder) Opened(c *proxy.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[c.Subject()]++
	r.note(c, time.Now())
}

// Closed records that the session of c has ended. It is a hook of proxy.Trace.
func (r *Recorder) Closed(c *proxy.Client, _ proxy.End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.live[c.Subject()]; n > 1 {
		r.live[c.Subject()] = n - 1
	} else {
		delete(r.live, c.Subject())
	}
	r.note(c, time.Now())
}

// Renewed records that the client of c has another token. It is a hook of proxy.Trace.
func (r *Recorder) Renewed(c *proxy.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(c, time.Now())
}

// note adds to what is to be written that c was seen. r.mu is held.
func (r *Recorder) note(c *proxy.Client, now time.Time) {
	at := now.UnixMilli()
	r.lose(r.pending.device(sighting{subject: c.Subject(), addr: c.Addr.Addr().Unmap(), first: at, last: at}, r.options.maxPending))
	if id := c.Grant.TokenID; id != "" {
		r.lose(r.pending.token(id, at, r.options.maxPending))
	}
}

// lose counts n records that are lost. r.mu is held.
func (r *Recorder) lose(n int64) {
	if n > 0 {
		r.lost += n
		r.missed.Store(true)
	}
}

// Stats are the counters of a recorder.
type Stats struct {
	// Pending is how many devices wait for the store, and Lost how many records of devices and
	// tokens were lost because the store failed for too long.
	Pending int
	Lost    int64
}

// Stats returns the counters.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Pending: len(r.pending.devices) + len(r.writing.devices), Lost: r.lost}
}

// Fault returns why nothing can be recorded. It is nil if that is not known yet.
func (r *Recorder) Fault() error {
	if err := *r.fault.Load(); !errors.Is(err, errNotOpen) {
		return err
	}
	return nil
}

// sighting says that a device was seen. Times are in milliseconds since 1970.
type sighting struct {
	subject     string
	addr        netip.Addr
	first, last int64
	connected   bool // set when it is written
}

// address returns the address, empty if it is not known. The zone of an IPv6 address names an
// interface of this machine.
func (s sighting) address() string {
	if !s.addr.IsValid() {
		return ""
	}
	return s.addr.WithZone("").String()
}

// batch is what is written at once.
type batch struct {
	devices map[string]sighting
	tokens  map[string]int64 // when each token id was seen last
}

func newBatch() *batch { return &batch{make(map[string]sighting), make(map[string]int64)} }

func (b *batch) empty() bool { return len(b.devices) == 0 && len(b.tokens) == 0 }

// device adds a sighting. It returns 1 if the sighting is lost because there are already most
// devices.
func (b *batch) device(s sighting, most int) (lost int64) {
	before, ok := b.devices[s.subject]
	switch {
	case !ok && len(b.devices) >= most:
		return 1
	case ok && before.last > s.last:
		before.first = min(before.first, s.first)
		s = before
	case ok:
		s.first = min(before.first, s.first)
	}
	b.devices[s.subject] = s
	return 0
}

// token adds the use of a token. It returns 1 if the use is lost because there are already most
// tokens.
func (b *batch) token(id string, at int64, most int) (lost int64) {
	before, ok := b.tokens[id]
	if !ok && len(b.tokens) >= most {
		return 1
	}
	b.tokens[id] = max(before, at)
	return 0
}
