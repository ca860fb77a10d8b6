package broker

import (
	"bytes"
	"context"
	"slices"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// restore brings back the sessions and retained messages that are in the file.
func (b *Broker) restore(ctx context.Context) error {
	sessions, err := b.ledger.file.Sessions(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, s := range sessions {
		b.restoreSession(s, now)
	}
	b.expireSessions(now)
	return b.ledger.file.Retained(ctx, b.restoreRetained)
}

// restoreSession brings back one session, without a connection. Its expiry counts from the end of
// its connection or, if that was the end of the process, from now on.
func (b *Broker) restoreSession(s *durable.Kept, now time.Time) {
	if !b.ledger.adopt(s.Session) {
		b.forgetKept(s, "there is no memory for it")
		return
	}
	cl := b.server.NewClient(nil, listenerID, s.ClientID, false)
	c := &conn{broker: b, device: s.Device, reader: s.Reader, away: s.Away}
	cl.Net.Conn = c
	c.client.Store(cl)
	cl.Properties.ProtocolVersion = s.Version
	cl.Properties.Props.SessionExpiryInterval = s.Expiry
	cl.Properties.Props.SessionExpiryIntervalFlag = s.Version == 5
	cl.Stop(packets.ErrServerShuttingDown)
	if c.away == 0 {
		c.away = now.Unix()
		b.ledger.end(cl, now)
	}
	for _, sub := range s.Subscriptions {
		sub := packets.Subscription{
			Filter: sub.Filter, Qos: sub.QoS, NoLocal: sub.NoLocal, RetainAsPublished: sub.RetainAsPublished, Identifier: sub.Identifier,
		}
		b.server.Topics.Subscribe(s.ClientID, sub)
		cl.State.Subscriptions.Add(sub.Filter, sub)
	}
	b.ledger.setSubscriptions(s.ClientID, cl.State.Subscriptions.GetAll())
	for _, id := range s.Received {
		b.requeue(cl, ack(packets.Pubrec, id), handshake)
	}
	for i, q := range s.Queue {
		pk, err := decodePacket(q)
		if err != nil { // the other devices must be served all the same
			b.options.Logger.Error("a queued message cannot be read from the file of the sessions and is lost", "device", s.Device, "error", err)
			b.ledger.change(s.ClientID, nil, func(c *durable.Change, key int64) { c.Dequeue(key, q.Seq) })
			continue
		}
		pk.Created = int64(i) // the place in the queue, see inOrder
		b.requeue(cl, pk, q.Seq)
	}
	b.server.Clients.Add(cl)
}

// requeue puts a message or a handshake back into the queue of a session.
func (b *Broker) requeue(cl *mqtt.Client, pk packets.Packet, seq int64) {
	content := new(body)
	if pk.FixedHeader.Type == packets.Publish {
		content = newBody(pk)
	}
	kept := func(*durable.Change, int64, int64) int64 { return seq } // it is in the file
	if cause := b.ledger.enqueue(cl.ID, pk.PacketID, content, kept, nil); cause != dropNone {
		b.counts.dropped.count(cause)
		b.ledger.change(cl.ID, nil, func(c *durable.Change, key int64) {
			if seq == handshake {
				c.Complete(key, pk.PacketID)
			} else {
				c.Dequeue(key, seq)
			}
		})
		return
	}
	cl.State.Inflight.Set(pk)
}

// forgetKept deletes a session that cannot be brought back.
func (b *Broker) forgetKept(s *durable.Kept, why string) {
	b.options.Logger.Error("a session of a device ended with the process", "device", s.Device, "error", why)
	var c durable.Change
	c.DeleteSession(s.Key)
	b.ledger.file.Submit(&c, nil)
}

func (b *Broker) restoreRetained(r durable.Retained) error {
	pk, err := decodePacket(durable.Queued{Message: r.Message})
	if err != nil {
		b.options.Logger.Error("a retained message cannot be read from the file of the sessions and is lost", "device", r.Device, "error", err)
	}
	pk.PacketID = 0
	pk.Origin = r.Origin
	pk.FixedHeader.Retain = true
	if err != nil || expired(pk, time.Now()) || !b.ledger.retain(r.Topic, r.Device, newBody(pk)) {
		var c durable.Change
		c.Forget(r.Topic)
		b.ledger.file.Submit(&c, nil)
		return nil
	}
	b.server.Topics.RetainMessage(pk)
	return nil
}

// ack returns a packet that mochi keeps for a message of QoS 2 whose content is not needed any more.
func ack(kind byte, id uint16) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: id}
	if kind == packets.Pubrel {
		pk.FixedHeader.Qos = 1 // as its flags are encoded
	}
	return pk
}

// keepPacket returns the function that adds a packet of a session's queue to a change.
func keepPacket(pk packets.Packet) keepFunc {
	return func(c *durable.Change, key, next int64) int64 {
		switch pk.FixedHeader.Type {
		case packets.Publish:
			c.Enqueue(key, durable.Queued{Seq: next, PacketID: pk.PacketID, Message: encodePacket(pk)})
			return next
		case packets.Pubrel:
			c.Enqueue(key, durable.Queued{Seq: next, PacketID: pk.PacketID})
			c.Release(key, next)
			return next
		case packets.Pubrec:
			c.Receive(key, pk.PacketID)
			return handshake
		}
		return 0
	}
}

// encodePacket returns a PUBLISH as the file has it: encoded for MQTT 5, so that nothing is lost,
// and with the version of its publisher beside it.
func encodePacket(pk packets.Packet) durable.Message {
	m := durable.Message{Version: pk.ProtocolVersion, Expires: pk.Expiry}
	pk.ProtocolVersion = 5
	pk.PacketID = max(pk.PacketID, 1)
	pk.Mods = packets.Mods{AllowResponseInfo: true}
	pk.Properties.SubscriptionIdentifier = slices.Clone(pk.Properties.SubscriptionIdentifier)
	var encoded bytes.Buffer
	_ = pk.PublishEncode(&encoded) // fails only without a packet identifier
	m.Packet = encoded.Bytes()
	return m
}

// decodePacket is the inverse of encodePacket. It returns the PUBREL of a message that the receiver
// has.
func decodePacket(q durable.Queued) (pk packets.Packet, err error) {
	if q.Released {
		return ack(packets.Pubrel, q.PacketID), nil
	}
	in := bytes.NewReader(q.Packet)
	flags, err := in.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(flags); err != nil {
		return pk, err
	}
	if pk.FixedHeader.Type != packets.Publish {
		return pk, packets.ErrMalformedPacket
	}
	length, _, err := packets.DecodeLength(in)
	if err != nil {
		return pk, err
	}
	if length != in.Len() {
		return pk, packets.ErrMalformedPacket
	}
	pk.FixedHeader.Remaining = length
	pk.ProtocolVersion = 5
	if err := pk.PublishDecode(q.Packet[len(q.Packet)-length:]); err != nil {
		return pk, err
	}
	pk.ProtocolVersion = q.Version
	pk.Expiry = q.Expires
	if q.PacketID != 0 {
		pk.PacketID = q.PacketID
	}
	return pk, nil
}

// subscription returns what the file has of a subscription.
func subscription(sub packets.Subscription) durable.Subscription {
	return durable.Subscription{
		Filter: sub.Filter, QoS: sub.Qos, NoLocal: sub.NoLocal, RetainAsPublished: sub.RetainAsPublished, Identifier: sub.Identifier,
	}
}
