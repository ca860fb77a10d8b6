package broker

import (
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

const (
	// windowMessages and windowBytes bound what a session of a reader has in memory of its queue.
	windowMessages = 1000
	windowBytes    = 4 << 20
	// allReaderQueues is how many full queues all sessions of readers may have in the file together.
	allReaderQueues = 4
	// queueParts is in how many parts a full queue is dropped, one at a time.
	queueParts = 128
	// scarceBacklog is how many bytes may wait in the file for all sessions while disk space is
	// scarce.
	scarceBacklog = 1 << 20
)

// backlogs are the parts of the queues of readers that are in the file alone, because there is no
// room in memory. A message of a backlog takes as many places in the queue as it takes bytes in the
// file, so that two places say how long a backlog is. Guarded by ledger.mu.
type backlogs struct {
	limit    int64 // bytes of one session
	bytes    int64 // of all sessions
	accounts map[*account]struct{}
}

// add makes a backlog longer, or shorter if bytes is negative. Called with ledger.mu held.
func (s *backlogs) add(a *account, bytes int64) {
	a.backlog += bytes
	s.bytes += bytes
	if a.backlog > 0 {
		s.accounts[a] = struct{}{}
	} else {
		delete(s.accounts, a)
	}
}

// first returns the first place of the backlog.
func (a *account) first() int64 { return a.seq - a.backlog + 1 }

// skip ends the backlog up to a place. Called with ledger.mu held.
func (s *backlogs) skip(a *account, last int64) {
	if n := last + 1 - a.first(); n > 0 {
		s.add(a, -min(n, a.backlog))
	}
}

// enqueueMessage adds a message to the queue of a session, or returns why there is no room. What
// has no room in the window of a reader is added to the backlog, and so is what comes behind that.
// spilled is by how many bytes the backlog is longer now.
func (l *ledger) enqueueMessage(clientID string, pk packets.Packet, b *body, r *durable.Receipt) (spilled int64, cause dropCause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	if a == nil {
		return 0, dropSession
	}
	var keep keepFunc
	if r != nil {
		keep = keepPacket(pk)
	}
	lasts := a.key != 0 && r != nil
	windowFull := len(a.queue) >= windowMessages || len(a.queue) > 0 && a.content+b.bytes > windowBytes
	switch {
	case lasts && (a.backlog > 0 || a.moving || a.reader && windowFull):
		return l.spill(a, pk, r)
	case len(a.queue) >= maxQueued:
		return 0, dropQueue
	}
	cause = l.enqueueIn(a, pk.PacketID, b, keep, r)
	if lasts && a.reader && (cause == dropDevice || cause == dropMemory) {
		return l.spill(a, pk, r)
	}
	return 0, cause
}

// spill adds a message to the backlog of a session. Called with mu held.
func (l *ledger) spill(a *account, pk packets.Packet, r *durable.Receipt) (bytes int64, cause dropCause) {
	if l.cannotKeep(r) {
		return 0, dropDisk
	}
	m := encodePacket(pk)
	var c durable.Change
	c.Enqueue(a.key, durable.Queued{Seq: a.seq + 1, Message: m})
	l.file.Submit(&c, r)
	a.seq += m.Size()
	l.waiting.add(a, m.Size())
	return m.Size(), dropNone
}

// excess says that a backlog has to become shorter.
type excess struct {
	clientID string
	bytes    int64 // by how much
}

// excessOf returns whose backlog has to become shorter after that of a session has become longer by
// spilled bytes: its own if that is too long, or the longest of the device that has most if all
// are. While disk space is scarce, they do not grow.
func (l *ledger) excessOf(clientID string, spilled int64) (x excess, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, a := &l.waiting, l.sessions[clientID]
	if a == nil || a.backlog == 0 {
		return x, false
	}
	switch part := max(spilled, w.limit/queueParts); {
	case a.backlog > w.limit:
		return excess{clientID, part}, true
	case w.bytes/allReaderQueues > w.limit: // which may be close to the largest number
		return excess{w.longest().clientID, part}, true
	case w.bytes > scarceBacklog && l.file.Scarce():
		return excess{w.longest().clientID, spilled}, true
	}
	return x, false
}

// longest returns the longest backlog of the device that has most. There must be one. Called with
// ledger.mu held.
func (s *backlogs) longest() (longest *account) {
	devices := make(map[string]int64)
	for a := range s.accounts {
		devices[a.device] += a.backlog
	}
	for a := range s.accounts {
		if longest == nil || devices[a.device] > devices[longest.device] || a.device == longest.device && a.backlog > longest.backlog {
			longest = a
		}
	}
	return longest
}

// discard drops the oldest messages of a backlog, and adds to count how many there were. warn says
// whether to log it.
func (l *ledger) discard(x excess, now time.Time, count *atomic.Int64) (warn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[x.clientID]
	if a == nil || a.backlog == 0 {
		return false
	}
	first := a.first()
	last := min(first+x.bytes-1, a.seq)
	var c durable.Change
	c.Discard(a.key, first, last, count)
	l.file.Submit(&c, nil)
	l.waiting.skip(a, last)
	return a.warn(now)
}

// part is the part of a backlog that is read next.
type part struct {
	key         int64
	first, last int64 // places
	messages    int   // that there is room for
	bytes       int64 // that there is room for
}

// hasBacklog reports whether messages for a session are in the file alone, or have been until now.
func (l *ledger) hasBacklog(clientID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	return a != nil && (a.backlog > 0 || a.moving)
}

// nextPart returns which part of a backlog is to be read next, and false if there is none or the
// window has no room. What was moved before must have been sent.
func (l *ledger) nextPart(clientID string) (p part, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	if a == nil {
		return p, false
	}
	a.moving = false
	n := len(a.queue)
	if a.backlog == 0 || n > windowMessages/2 || a.content > windowBytes/2 {
		return p, false
	}
	p = part{a.key, a.first(), a.seq, windowMessages - n, windowBytes - a.content}
	if l.lacks(a.device, messageCost, messageCost) != dropNone {
		p.messages = 1 // and the next when it was acknowledged
		return p, n == 0
	}
	return p, true
}

// move takes a message from the backlog into the queue in memory, or drops it if content is nil. moved
// says whether it is in memory now, and full that there is no room for it. A message that was
// discarded meanwhile is neither.
func (l *ledger) move(clientID string, id uint16, content *body, q durable.Queued) (moved, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	switch {
	case a == nil:
		return false, true
	case q.Seq < a.first():
		return false, false
	case content == nil:
	case len(a.queue) == 0: // so that an acknowledgement asks for more
		l.mustCharge(a.device, content, 0)
	case l.charge(a.device, content, 0) != dropNone:
		return false, true
	}
	l.waiting.skip(a, q.Seq+q.Size()-1)
	if content == nil {
		return false, false
	}
	l.unqueue(a, id) // the message that had the identifier before
	a.put(id, queued{content, q.Seq})
	a.placed(id, q.Seq)
	a.moving = true
	return true, false
}

// passed records that nothing is left of a part of a backlog.
func (l *ledger) passed(clientID string, p part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sessions[clientID]; a != nil && a.key == p.key {
		l.waiting.skip(a, p.last)
	}
}

// adoptBacklog records the backlog of a session that is in the file.
func (l *ledger) adoptBacklog(clientID string, first, last int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	a.seq = last
	l.waiting.add(a, last-first+1)
}

// backlogBytes returns how many bytes of messages are in the file alone.
func (l *ledger) backlogBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting.bytes
}
