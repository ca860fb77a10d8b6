package durable

import (
	"context"
	"sync"
	"sync/atomic"
)

// Session is what is kept about one session, without its subscriptions and messages.
type Session struct {
	Key      int64 // from [File.NewKey]
	ClientID string
	Device   string // the owner
	Version  byte   // protocol level of its last CONNECT
	Expiry   uint32 // how many seconds it outlives its connection
	// Away is when its last connection ended, in seconds since 1970, or 0 while it has one.
	Away   int64
	Reader bool // whether it belongs to a reader
}

// Subscription is one subscription of a session.
type Subscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	Identifier        int // 0 for none
}

// Message is a message as it is kept.
type Message struct {
	Packet  []byte // its encoding
	Version byte   // protocol level of its publisher
	Expires int64  // in seconds since 1970, 0 for never
}

// rowBytes is what a message takes in the file besides its packet, in bytes and rounded up.
const rowBytes = 64

// Size returns how many bytes a message takes in the file, about.
func (m Message) Size() int64 { return rowBytes + int64(len(m.Packet)) }

// Queued is a message in the queue of a session.
type Queued struct {
	Message
	// Seq is its place in the queue of the session. A later message has a larger one. If a message
	// takes as many places as its Size, the distance of two places is a number of bytes.
	Seq      int64
	PacketID uint16 // 0 until it has one; those that have none come after those that have
	Released bool   // of QoS 2: the receiver has it, and waits for PUBREL
}

// Retained is the retained message of a topic.
type Retained struct {
	Message
	Topic  string
	Device string // that is charged for it
	Origin string // client identifier of its publisher
}

type kind byte

const (
	putSession kind = iota
	deleteSession
	putSubscription
	deleteSubscription
	enqueue
	setPacketID
	release
	dequeue
	discard
	receive
	complete
	retain
	forget
)

// step is one step of a change.
type step struct {
	kind         kind
	key          int64
	seq, last    int64
	id           uint16
	session      *Session
	subscription *Subscription
	message      *Message
	retained     *Retained
	text         string // a filter or a topic
	count        *atomic.Int64
}

// adds reports whether the step adds something whose sender waits for it, so that it must be
// forgotten if it fails.
func (s step) adds() bool { return s.kind == enqueue || s.kind == receive }

// grows reports whether the step needs more space in the file.
func (s step) grows() bool { return s.adds() || s.kind == putSubscription || s.kind == retain }

// Change is a list of steps that become durable together. The zero Change is empty. It must not be
// used any more once it was submitted.
type Change struct {
	steps   []step
	receipt *Receipt
}

// PutSession adds or replaces a session. Its subscriptions and messages stay.
func (c *Change) PutSession(s Session) {
	c.steps = append(c.steps, step{kind: putSession, key: s.Key, session: &s})
}

// DeleteSession deletes a session with its subscriptions, messages and handshakes.
func (c *Change) DeleteSession(key int64) {
	c.steps = append(c.steps, step{kind: deleteSession, key: key})
}

// Subscribe adds a subscription, or replaces the one with the same filter.
func (c *Change) Subscribe(key int64, s Subscription) {
	c.steps = append(c.steps, step{kind: putSubscription, key: key, subscription: &s})
}

// Unsubscribe deletes a subscription.
func (c *Change) Unsubscribe(key int64, filter string) {
	c.steps = append(c.steps, step{kind: deleteSubscription, key: key, text: filter})
}

// Enqueue adds a message to the queue of a session.
func (c *Change) Enqueue(key int64, q Queued) {
	c.steps = append(c.steps, step{kind: enqueue, key: key, seq: q.Seq, id: q.PacketID, message: &q.Message})
}

// SetPacketID gives a message of a queue its packet identifier.
func (c *Change) SetPacketID(key, seq int64, id uint16) {
	c.steps = append(c.steps, step{kind: setPacketID, key: key, seq: seq, id: id})
}

// Release records that the receiver has a message of QoS 2, which need not be kept any more.
func (c *Change) Release(key, seq int64) {
	c.steps = append(c.steps, step{kind: release, key: key, seq: seq})
}

// Dequeue deletes a message of a queue.
func (c *Change) Dequeue(key, seq int64) {
	c.steps = append(c.steps, step{kind: dequeue, key: key, seq: seq, last: seq})
}

// Discard deletes the messages of a queue from one place to another, both included, and adds to
// count how many there were, once they are gone.
func (c *Change) Discard(key, first, last int64, count *atomic.Int64) {
	c.steps = append(c.steps, step{kind: discard, key: key, seq: first, last: last, count: count})
}

// Receive records that a message of QoS 2 with that identifier has come from the client.
func (c *Change) Receive(key int64, id uint16) {
	c.steps = append(c.steps, step{kind: receive, key: key, id: id})
}

// Complete records that the client may use the identifier for another message.
func (c *Change) Complete(key int64, id uint16) {
	c.steps = append(c.steps, step{kind: complete, key: key, id: id})
}

// Retain sets the retained message of a topic.
func (c *Change) Retain(r Retained) { c.steps = append(c.steps, step{kind: retain, retained: &r}) }

// Forget deletes the retained message of a topic.
func (c *Change) Forget(topic string) { c.steps = append(c.steps, step{kind: forget, text: topic}) }

// Submit hands a change to the writing goroutine. It does not block. Changes become durable in the
// order in which they were submitted. The receipt may be nil if no caller waits. A nil File keeps
// nothing, and its changes succeed.
func (f *File) Submit(c *Change, r *Receipt) {
	if f == nil || len(c.steps) == 0 {
		return
	}
	if r != nil {
		r.add(f)
		c.receipt = r
	}
	f.mu.Lock()
	closed := f.closed
	if !closed {
		f.pending = append(f.pending, c)
	}
	f.mu.Unlock()
	if closed {
		c.settle(errClosed)
	}
}

// Sync submits a receipt for everything that was submitted before, no matter which goroutine waits
// for that.
func (f *File) Sync(r *Receipt) {
	var c Change
	c.Dequeue(0, 0) // a message that there is not
	f.Submit(&c, r)
}

// wakeUp makes the writing goroutine commit what was submitted.
func (f *File) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default: // it will
	}
}

// Receipt says whether changes were committed. The zero Receipt has no changes. It must not be copied.
type Receipt struct {
	mu   sync.Mutex
	file *File
	left int           // changes that are not settled
	err  error         // of the first that failed
	done chan struct{} // closed when nothing is left, made by Wait
}

func (r *Receipt) add(f *File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file = f
	r.left++
}

// Fail makes Wait return err, for something that was not even submitted.
func (r *Receipt) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// settle tells those who wait for a change its outcome.
func (c *Change) settle(err error) {
	r := c.receipt
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	if r.left--; r.left == 0 && r.done != nil {
		close(r.done)
		r.done = nil
	}
}

// Empty reports whether there is nothing to wait for and nothing has failed.
func (r *Receipt) Empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left == 0 && r.err == nil
}

// Wait waits until the changes submitted with the receipt are durable, and returns nil, or the error
// of one that is not. If ctx ends first, it returns the error of ctx; the changes may become durable
// later.
func (r *Receipt) Wait(ctx context.Context) error {
	r.mu.Lock()
	if r.left == 0 {
		defer r.mu.Unlock()
		return r.err
	}
	done := make(chan struct{})
	r.done = done
	r.mu.Unlock()
	r.file.wakeUp()
	select {
	case <-done:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
