package broker

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// What is charged besides the bytes that a device has sent: the structures around them, in
// bytes, as measured with mochi v2.7.9 and rounded up.
const (
	messageCost      = 1 << 10
	sessionCost      = 8 << 10
	subscriptionCost = 512
	levelCost        = 256
)

// ledger accounts for the bytes that the broker keeps for devices: sessions with their
// subscriptions and queues, wills, retained messages, packets that are being received, and
// what devices have not read. It lets no device take more than its share, and all of them
// together no more than the whole.
//
// A message that waits in several queues, or in a queue and as a retained message, is in
// memory once. It counts in full for each device, but once for the whole.
type ledger struct {
	share int64         // bytes for one device
	whole func() int64  // bytes for all devices, 0 for no limit
	file  *durable.File // follows what is kept; nil for none

	mu       sync.Mutex
	used     int64 // of the whole
	devices  map[string]int64
	sessions map[string]*account // by client identifier
	waiting  backlogs            // of the sessions
	retained map[string]kept     // by topic

	readers atomic.Int64 // sessions of readers, changed with mu held
}

// account is what a session takes.
type account struct {
	clientID      string
	device        string
	reader        bool // it belongs to a reader
	subscriptions int64
	queue         map[uint16]queued // by packet identifier
	content       int64             // bytes of the messages in queue
	key           int64             // of the session in the file, 0 if it is not there
	seq           int64             // the last place in the queue of the file
	backlog       int64             // how many places up to seq are of messages that are in the file alone
	moving        bool              // messages of the backlog are on their way to the connection
	order         []place           // of messages for a reader, the oldest first, with some that are gone
	warned        time.Time         // when it was last logged that the oldest are dropped
}

// queued is a message in the queue of a session, or the handshake of one that it sends.
type queued struct {
	*body
	seq int64 // its place in the queue of the file, 0 if it is not there, handshake for a handshake
}

// handshake stands for the place of a handshake in the file, where it has none.
const handshake = -1

// kept is a retained message and the device that is charged for it.
type kept struct {
	device string
	*body
	tree int64 // bytes of the topic's levels
}

// body is the content of one message, which several sessions may keep. The zero body is
// that of a handshake.
type body struct {
	bytes   int64
	keepers int // guarded by ledger.mu
}

func newBody(pk packets.Packet) *body {
	n := len(pk.Payload) + len(pk.TopicName) + len(pk.Properties.CorrelationData) + len(pk.Properties.ResponseTopic) + len(pk.Properties.ContentType)
	for _, u := range pk.Properties.User {
		n += len(u.Key) + len(u.Val)
	}
	return &body{bytes: int64(n)}
}

func newLedger(o *Options) *ledger {
	return &ledger{
		share: o.DeviceMemory, whole: o.Memory, file: o.Sessions,
		devices: make(map[string]int64), sessions: make(map[string]*account), retained: make(map[string]kept),
		waiting: backlogs{limit: o.ReaderQueue, accounts: make(map[*account]struct{})},
	}
}

// openSession makes sure that a session has an account. It returns false, and makes none, if
// the device has no room for another session.
func (l *ledger) openSession(clientID, device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.sessions[clientID]; ok {
		return true
	}
	cost := sessionCost + int64(len(clientID))
	if l.lacks(device, cost, cost) != dropNone {
		return false
	}
	l.add(device, cost, cost)
	l.sessions[clientID] = &account{clientID: clientID, device: device, queue: make(map[uint16]queued)}
	return true
}

// closeSession ends an account with everything in it, if there is one.
func (l *ledger) closeSession(clientID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	if a == nil {
		return
	}
	l.deleteKept(a)
	for id := range a.queue {
		l.unqueue(a, id)
	}
	n := sessionCost + int64(len(clientID)) + a.subscriptions
	l.add(a.device, -n, -n)
	delete(l.sessions, clientID)
	if a.reader {
		l.readers.Add(-1)
	}
}

// setReader records whether a session is that of a reader. A token may have become one, or stopped
// to be one, since the session began.
func (l *ledger) setReader(clientID string, reader bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	if a == nil || a.reader == reader {
		return
	}
	a.reader = reader
	if reader {
		l.readers.Add(1)
	} else {
		l.readers.Add(-1)
	}
}

// isReader reports whether a session is that of a reader.
func (l *ledger) isReader(clientID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	return a != nil && a.reader
}

// roomFor reports whether a session may take that many more bytes.
func (l *ledger) roomFor(clientID string, bytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	return a != nil && l.lacks(a.device, bytes, bytes) == dropNone
}

// setSubscriptions sets the filters of a session.
func (l *ledger) setSubscriptions(clientID string, filters map[string]packets.Subscription) {
	var n int64
	for filter := range filters {
		n += filterCost(filter)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sessions[clientID]; a != nil {
		l.add(a.device, n-a.subscriptions, n-a.subscriptions)
		a.subscriptions = n
	}
}

// sessionsOf returns the client identifiers of the sessions of a device.
func (l *ledger) sessionsOf(device string) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.sessions {
		if a.device == device {
			ids = append(ids, id)
		}
	}
	return ids
}

// keepQueued ends the charges for all messages of a queue that are not in use any more.
func (l *ledger) keepQueued(clientID string, inUse func(id uint16) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	if a == nil {
		return
	}
	for id := range a.queue {
		if !inUse(id) {
			l.unqueue(a, id)
		}
	}
}

func filterCost(filter string) int64 {
	return subscriptionCost + int64(len(filter)) + treeCost(filter)
}

// treeCost is what the levels of a topic or filter take in the topic tree, if no other has
// them.
func treeCost(topic string) int64 { return levelCost * int64(1+strings.Count(topic, "/")) }

// enqueue adds a message to the queue of a session in memory, or returns why there is no room. If
// keep is not nil and the session is in the file, keep makes the change that adds the message
// there, and the receipt is for that.
func (l *ledger) enqueue(clientID string, id uint16, b *body, keep keepFunc, r *durable.Receipt) dropCause {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sessions[clientID]; a != nil {
		return l.enqueueIn(a, id, b, keep, r)
	}
	return dropSession
}

// enqueueIn is enqueue, called with mu held.
func (l *ledger) enqueueIn(a *account, id uint16, b *body, keep keepFunc, r *durable.Receipt) dropCause {
	if a.key != 0 && keep != nil && l.cannotKeep(r) {
		return dropDisk
	}
	l.unqueue(a, id) // the message that had the identifier before
	if a.reader && a.key != 0 && len(a.queue) == 0 {
		l.mustCharge(a.device, b, 0) // so that an acknowledgement asks for what is in the file alone
	} else if cause := l.charge(a.device, b, 0); cause != dropNone {
		return cause
	}
	q := queued{body: b}
	if a.key != 0 && keep != nil {
		var c durable.Change
		q.seq = keep(&c, a.key, a.seq+1)
		a.seq = max(a.seq, q.seq)
		l.file.Submit(&c, r)
		a.placed(id, q.seq)
	}
	a.put(id, q)
	return dropNone
}

// put adds a message to the queue. Called with ledger.mu held.
func (a *account) put(id uint16, q queued) {
	a.queue[id] = q
	a.content += q.bytes
}

// keepFunc adds a message of a session to a change. It returns its place, which is next if the
// message needs one.
type keepFunc func(c *durable.Change, key, next int64) (seq int64)

// dequeue removes a message from the queue of a session, if it is there.
func (l *ledger) dequeue(clientID string, id uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sessions[clientID]; a != nil {
		l.unqueue(a, id)
	}
}

// unqueue is dequeue, called with mu held.
func (l *ledger) unqueue(a *account, id uint16) {
	q, ok := a.queue[id]
	if !ok {
		return
	}
	delete(a.queue, id)
	a.content -= q.bytes
	l.discharge(a.device, q.body, 0)
	if a.key == 0 || q.seq == 0 {
		return
	}
	var c durable.Change
	if q.seq == handshake {
		c.Complete(a.key, id)
	} else {
		c.Dequeue(a.key, q.seq)
	}
	l.file.Submit(&c, nil)
}

// retain charges a device for a retained message, which replaces the one of that topic. It
// returns false if there is no room; then the previous one remains.
func (l *ledger) retain(topic, device string, b *body) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, replaces := l.retained[topic]
	if !replaces && len(l.retained) >= maxRetained {
		return false
	}
	if replaces {
		l.discharge(before.device, before.body, before.tree)
	}
	next := kept{device, b, treeCost(topic)}
	if l.charge(next.device, next.body, next.tree) == dropNone {
		l.retained[topic] = next
		return true
	}
	if replaces {
		l.mustCharge(before.device, before.body, before.tree)
	}
	return false
}

// release ends the charge for the retained message of a topic. It reports whether there was one.
func (l *ledger) release(topic string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.retained[topic]
	if ok {
		delete(l.retained, topic)
		l.discharge(k.device, k.body, k.tree)
	}
	return ok
}

// chargeWill charges a device for a will with that many bytes, unless there is no room. Without a will
// there is always room: a device must be able to come and take what fills its queue.
func (l *ledger) chargeWill(device string, bytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes > 0 && l.lacks(device, bytes, bytes) != dropNone {
		return false
	}
	l.add(device, bytes, bytes)
	return true
}

// releaseWill ends that charge.
func (l *ledger) releaseWill(device string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(device, -bytes, -bytes)
}

// retainedBody returns the charged content of a retained message.
func (l *ledger) retainedBody(pk packets.Packet) *body {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k, ok := l.retained[pk.TopicName]; ok {
		return k.body
	}
	return newBody(pk) // it was replaced meanwhile
}

// note counts bytes that a device's connections keep, or less if they are negative: packets
// that are being received or read, and copies of messages in a queue. They have bounds of
// their own, so they count without being refused.
func (l *ledger) note(device string, bytes, copies int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(device, int64(bytes), int64(bytes+copies))
}

// room reports whether a device has not used up its share, nor all devices the whole.
func (l *ledger) room(device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lacks(device, 0, 0) == dropNone
}

// bytes returns how many bytes are kept for all devices.
func (l *ledger) bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// charge counts a message and other bytes for a device, unless there is no room. Called
// with mu held.
func (l *ledger) charge(device string, b *body, other int64) dropCause {
	own, all := messageCost+b.bytes+other, messageCost+other
	if b.keepers == 0 {
		all += b.bytes
	}
	if cause := l.lacks(device, own, all); cause != dropNone {
		return cause
	}
	l.mustCharge(device, b, other)
	return dropNone
}

// mustCharge is charge without a bound. Called with mu held.
func (l *ledger) mustCharge(device string, b *body, other int64) {
	all := messageCost + other
	if b.keepers++; b.keepers == 1 {
		all += b.bytes
	}
	l.add(device, messageCost+b.bytes+other, all)
}

// discharge is the inverse of charge. Called with mu held.
func (l *ledger) discharge(device string, b *body, other int64) {
	all := messageCost + other
	if b.keepers--; b.keepers == 0 {
		all += b.bytes
	}
	l.add(device, -messageCost-b.bytes-other, -all)
}

// lacks returns which limit another own bytes for a device, and all bytes for the whole, would
// exceed, or dropNone. Called with mu held.
func (l *ledger) lacks(device string, own, all int64) dropCause {
	whole := l.whole()
	switch {
	case l.devices[device]+own > l.share:
		return dropDevice
	case whole > 0 && l.used+all > whole:
		return dropMemory
	}
	return dropNone
}

// add counts bytes for a device and for the whole. Called with mu held.
func (l *ledger) add(device string, own, all int64) {
	l.used += all
	if n := l.devices[device] + own; n != 0 {
		l.devices[device] = n
	} else {
		delete(l.devices, device)
	}
}
