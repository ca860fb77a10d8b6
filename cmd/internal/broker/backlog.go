package broker

import (
	"context"
	"errors"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

// makeRoom drops the oldest messages of a queue if there are too many in the file after that of a
// session has become longer by spilled bytes. What is in memory is older, and goes first, unless it
// is on its way to a connection. Called with sessions held.
func (b *Broker) makeRoom(clientID string, spilled int64) {
	x, ok := b.ledger.excessOf(clientID, spilled)
	if !ok {
		return
	}
	cl, ok := b.server.Clients.Get(x.clientID)
	if !ok {
		return
	}
	now := time.Now()
	for cl.Closed() {
		id := b.ledger.dropOldest(cl.ID)
		if id == 0 {
			break
		}
		cl.State.Inflight.Delete(id)
		b.counts.dropped.count(dropOldest)
	}
	if b.ledger.discard(x, now, &b.counts.dropped[dropOldest]) {
		b.options.Logger.Warn("the queue of a reader is full: its oldest messages are dropped", "device", cl.Net.Conn.(*conn).device)
	}
}

// refill moves messages of a session that are in the file alone into memory, as far as there is
// room, and sends them. While one goroutine does so, others only make it look again.
func (b *Broker) refill(c *conn, cl *mqtt.Client) {
	if c.refills.Add(1) > 1 {
		return
	}
	for asked := int32(1); ; asked = c.refills.Load() {
		for !cl.Closed() && b.refillOnce(cl) {
		}
		if c.refills.CompareAndSwap(asked, 0) {
			return
		}
	}
}

// refillSafely is refill for a goroutine of its own.
func (b *Broker) refillSafely(c *conn, cl *mqtt.Client) {
	err := task.Do(func() error {
		b.refill(c, cl)
		return nil
	})
	var p *task.Panic
	if errors.As(err, &p) {
		b.panicked(c.device, p)
		_ = c.Close()
	}
}

// refillOnce moves one part. It returns false if there is nothing more to move now, or no room for
// it until a message was acknowledged.
func (b *Broker) refillOnce(cl *mqtt.Client) bool {
	p, ok := b.nextPart(cl)
	if !ok {
		return false
	}
	moved, full, err := b.readPart(cl, p)
	if err != nil {
		b.counts.keepErrors.Add(1)
		b.options.Logger.Error("the queue of a reader was not read", "device", cl.Net.Conn.(*conn).device, "error", err)
		_ = cl.Net.Conn.Close()
		return false
	}
	b.sendMoved(cl, moved)
	return !full
}

// isCurrent reports whether no other connection has taken the session over, and it has not ended.
// Called with sessions held.
func (b *Broker) isCurrent(cl *mqtt.Client) bool {
	current, ok := b.server.Clients.Get(cl.ID)
	return ok && current == cl
}

// nextPart returns what is to be read next for a connection, and false if there is nothing.
func (b *Broker) nextPart(cl *mqtt.Client) (part, bool) {
	b.sessions.RLock()
	defer b.sessions.RUnlock()
	if !b.isCurrent(cl) {
		return part{}, false
	}
	return b.ledger.nextPart(cl.ID)
}

// readPart reads a part as far as there is room, and returns the messages that are in memory after
// that, with packet identifiers that are in the file: a receiver of QoS 2 must get the same again
// after a crash. full says that the memory has no room for the next one.
func (b *Broker) readPart(cl *mqtt.Client, p part) (moved []packets.Packet, full bool, err error) {
	ctx, cancel := context.WithTimeout(b.storing, b.options.StoreTimeout)
	defer cancel()
	var written, numbered durable.Receipt
	b.ledger.file.Sync(&written) // what was submitted last may not be in the file yet
	if err := written.Wait(ctx); err != nil {
		return nil, false, err
	}
	var rows []durable.Queued
	whole := true // nothing is left of the part
	err = b.ledger.file.Queue(ctx, p.key, p.first, func(q durable.Queued) bool {
		if q.Seq > p.last {
			return false
		}
		if whole = p.messages > 0 && (p.bytes > 0 || len(rows) == 0); whole {
			rows = append(rows, q)
			p.messages--
			p.bytes -= int64(len(q.Packet))
		}
		return whole
	})
	if err != nil {
		return nil, false, err
	}
	moved, full = b.movePart(cl, p, rows, whole, &numbered)
	return moved, full, numbered.Wait(ctx)
}

// movePart moves messages that were read into memory, until one has no room: then full is true.
// whole says that they are all that there are of the part. The receipt is for their packet
// identifiers.
func (b *Broker) movePart(cl *mqtt.Client, p part, rows []durable.Queued, whole bool, r *durable.Receipt) (moved []packets.Packet, full bool) {
	b.sessions.RLock()
	defer b.sessions.RUnlock()
	if !b.isCurrent(cl) {
		return nil, true
	}
	var change durable.Change
	for _, q := range rows {
		var (
			pk packets.Packet
			ok bool
		)
		if pk, ok, full = b.move(cl, q); full {
			break
		}
		if ok {
			change.SetPacketID(p.key, q.Seq, pk.PacketID)
			moved = append(moved, pk)
		} else {
			change.Dequeue(p.key, q.Seq)
		}
	}
	if whole && !full {
		b.ledger.passed(cl.ID, p)
	}
	b.ledger.file.Submit(&change, r)
	return moved, full
}

// move moves a message into memory and gives it a packet identifier. It is left out (ok is false)
// if it has expired, or is not for the device any more, and stays where it is if full is true.
// Called with sessions held.
func (b *Broker) move(cl *mqtt.Client, q durable.Queued) (pk packets.Packet, ok, full bool) {
	pk, err := decodePacket(q)
	if err != nil {
		b.options.Logger.Error("a queued message cannot be read from the file of the sessions and is lost", "device", cl.Net.Conn.(*conn).device, "error", err)
	}
	var content *body // nil to leave it out
	if err == nil && !expired(pk, time.Now()) && !notForDevice(cl, pk.TopicName) {
		content = newBody(pk)
		id, err := cl.NextPacketID()
		if err != nil { // impossible: there are more identifiers than places in the queue
			return pk, false, true
		}
		pk.PacketID = uint16(id)
	}
	if ok, full = b.ledger.move(cl.ID, pk.PacketID, content, q); ok {
		pk.Created = orderBase + b.order.Add(1)
		cl.State.Inflight.Set(pk)
	}
	return pk, ok, full
}

// sendMoved sends messages that were moved, unless another connection has taken the session over,
// which sends them itself.
func (b *Broker) sendMoved(cl *mqtt.Client, moved []packets.Packet) {
	b.sessions.RLock()
	defer b.sessions.RUnlock()
	if !b.isCurrent(cl) {
		return
	}
	for _, pk := range moved {
		_ = cl.WritePacket(pk) // fails at the end of the connection
	}
}
