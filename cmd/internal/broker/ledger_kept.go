package broker

import (
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// begin records a session that has begun, in the file if it outlives its connection. fresh means
// that nothing is left of the one before. The session may have come out of one that was not in the
// file; then all of it is written.
func (l *ledger) begin(cl *mqtt.Client, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[cl.ID]
	if a == nil || l.file == nil {
		return
	}
	if fresh {
		l.deleteKept(a)
	}
	if a.key == 0 && !outlives(cl) {
		return
	}
	var c durable.Change
	if a.key != 0 {
		c.PutSession(a.session(cl, time.Time{}))
	} else {
		a.key = l.file.NewKey()
		c.PutSession(a.session(cl, time.Time{}))
		for _, sub := range cl.State.Subscriptions.GetAll() {
			c.Subscribe(a.key, subscription(sub))
		}
		for _, pk := range byAge(cl.State.Inflight) {
			if q, ok := a.queue[pk.PacketID]; ok {
				q.seq = keepPacket(pk)(&c, a.key, a.seq+1)
				a.seq = max(a.seq, q.seq)
				a.queue[pk.PacketID] = q
				a.placed(pk.PacketID, q.seq)
			}
		}
	}
	l.file.Submit(&c, nil)
}

// end records that the connection of a session has ended, which goes on without one.
func (l *ledger) end(cl *mqtt.Client, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sessions[cl.ID]; a != nil && a.key != 0 {
		var c durable.Change
		c.PutSession(a.session(cl, now))
		l.file.Submit(&c, nil)
	}
}

// change submits a change of a session, if that is in the file.
func (l *ledger) change(clientID string, r *durable.Receipt, make func(c *durable.Change, key int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sessions[clientID]; a != nil && a.key != 0 {
		var c durable.Change
		make(&c, a.key)
		l.file.Submit(&c, r)
	}
}

// released records that the receiver has a message of QoS 2.
func (l *ledger) released(clientID string, id uint16, r *durable.Receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.sessions[clientID]; a != nil && a.key != 0 && a.queue[id].seq > 0 {
		var c durable.Change
		c.Release(a.key, a.queue[id].seq)
		l.file.Submit(&c, r)
	}
}

// completed records that the sender of a message of QoS 2 may use its identifier again.
func (l *ledger) completed(clientID string, id uint16, r *durable.Receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	if a == nil || a.key == 0 {
		return
	}
	if q := a.queue[id]; q.seq == handshake {
		var c durable.Change
		c.Complete(a.key, id)
		l.file.Submit(&c, r)
		q.seq = 0
		a.queue[id] = q
	}
}

// adopt makes the account of a session that is in the file, whether there is room for it or not.
func (l *ledger) adopt(s durable.Session) {
	l.mu.Lock()
	cost := sessionCost + int64(len(s.ClientID))
	l.add(s.Device, cost, cost)
	l.sessions[s.ClientID] = &account{clientID: s.ClientID, device: s.Device, queue: make(map[uint16]queued), key: s.Key}
	l.mu.Unlock()
	l.setReader(s.ClientID, s.Reader)
}

// requeue adds a message that is in the file to the queue of its session, whether there is room for
// it or not. seq is its place there, or handshake.
func (l *ledger) requeue(clientID string, id uint16, b *body, seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	l.unqueue(a, id) // of a file in which two messages have one identifier
	l.mustCharge(a.device, b, 0)
	a.put(id, queued{b, seq})
	a.seq = max(a.seq, seq)
	a.placed(id, seq)
}

// mustRetain charges a device for a retained message that is in the file.
func (l *ledger) mustRetain(topic, device string, b *body) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := kept{device, b, treeCost(topic)}
	l.mustCharge(k.device, k.body, k.tree)
	l.retained[topic] = k
}

// full reports whether the memory for all devices is used up.
func (l *ledger) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	whole := l.whole()
	return whole > 0 && l.used > whole
}

// cannotKeep reports whether the file cannot be written, and tells those who wait for the receipt.
// What they have sent must then not be in memory either: they send it again, perhaps for hours.
func (l *ledger) cannotKeep(r *durable.Receipt) bool {
	if l.file == nil || r == nil {
		return false
	}
	err := l.file.Writable()
	if err != nil {
		r.Fail(err)
	}
	return err != nil
}

// deleteKept deletes a session from the file. Called with mu held.
func (l *ledger) deleteKept(a *account) {
	if a.key == 0 {
		return
	}
	var c durable.Change
	c.DeleteSession(a.key)
	l.file.Submit(&c, nil)
	a.key = 0
	l.waiting.add(a, -a.backlog)
	a.moving = false
}

// session returns what the file has of a session. away is when its connection ended, zero if it has
// one.
func (a *account) session(cl *mqtt.Client, away time.Time) durable.Session {
	s := durable.Session{Key: a.key, ClientID: cl.ID, Device: a.device, Reader: a.reader, Version: cl.Properties.ProtocolVersion}
	if s.Version == 5 {
		s.Expiry = cl.Properties.Props.SessionExpiryInterval
	}
	if !away.IsZero() {
		s.Away = away.Unix()
	}
	return s
}

// outlives reports whether a session goes on without its connection.
func outlives(cl *mqtt.Client) bool {
	if cl.Properties.ProtocolVersion == 5 {
		return cl.Properties.Props.SessionExpiryInterval > 0
	}
	return !cl.Properties.Clean
}
