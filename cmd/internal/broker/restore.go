package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"slices"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// restoring brings back what is in the file. It was within the bounds when it was acknowledged, so
// none of it is given up because there are other bounds now, or less memory.
type restoring struct {
	*Broker
	ctx context.Context
	now time.Time
	// shared are the messages so far. A message that waits in many queues is in the file as often, and
	// in memory once.
	shared map[messageKey]sharedMessage
}

// messageKey tells messages apart: the SHA-256 of topic and payload, and the bytes of everything.
type messageKey struct {
	sum   [sha256.Size]byte
	bytes int64
}

type sharedMessage struct {
	topic   string
	payload []byte
	body    *body
}

// restore brings back the sessions and retained messages that are in the file.
func (b *Broker) restore(ctx context.Context) error {
	r := restoring{b, ctx, time.Now(), make(map[messageKey]sharedMessage)}
	sessions, err := b.ledger.file.Sessions(ctx)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if err := r.session(s); err != nil {
			return err
		}
	}
	if err := b.ledger.file.Retained(ctx, r.retained); err != nil {
		return err
	}
	if b.ledger.full() {
		b.options.Logger.Warn("the sessions that were kept take more memory than there may be now: new messages for them are dropped until others were read",
			"bytes", b.ledger.bytes())
	}
	return nil
}

// session brings back one session, without a connection, unless it has expired. Its expiry counts
// from the end of its connection or, if that was the end of the process, from now on.
func (r *restoring) session(s *durable.Kept) error {
	cl := r.server.NewClient(nil, listenerID, s.ClientID, false)
	c := &conn{broker: r.Broker, device: s.Device, reader: s.Reader, away: s.Away}
	cl.Net.Conn = c
	c.client.Store(cl)
	cl.Properties.ProtocolVersion = s.Version
	cl.Properties.Props.SessionExpiryInterval = s.Expiry
	cl.Properties.Props.SessionExpiryIntervalFlag = s.Version == 5
	cl.Stop(packets.ErrServerShuttingDown)
	if ofGateway(s) {
		c.gateway = &gateway{}
	}
	r.ledger.adopt(s.Session)
	switch {
	case c.away == 0:
		c.away = r.now.Unix()
		r.ledger.end(cl, r.now)
	case r.now.Unix() > c.away+r.sessionExpiry(cl):
		r.ledger.closeSession(s.ClientID)
		return nil
	}
	for _, sub := range s.Subscriptions {
		sub := packets.Subscription{
			Filter: sub.Filter, Qos: sub.QoS, NoLocal: sub.NoLocal, RetainAsPublished: sub.RetainAsPublished, Identifier: sub.Identifier,
		}
		r.server.Topics.Subscribe(s.ClientID, sub)
		cl.State.Subscriptions.Add(sub.Filter, sub)
	}
	r.ledger.setSubscriptions(s.ClientID, cl.State.Subscriptions.GetAll())
	for _, id := range s.Received {
		r.ledger.requeue(s.ClientID, id, new(body), handshake)
		cl.State.Inflight.Set(ack(packets.Pubrec, id))
	}
	r.server.Clients.Add(cl)
	return r.queue(cl, s.Key)
}

// ofGateway reports whether a session that was kept is of a gateway: only a gateway can have
// subscribed to what concerns the devices behind it. Until it connects again, what is sent to them
// waits for it.
func ofGateway(s *durable.Kept) bool {
	return !s.Reader && slices.ContainsFunc(s.Subscriptions, func(sub durable.Subscription) bool {
		return familyOf(sub.Filter) == familyGateway && gatewayFilter(sub.Filter)
	})
}

// queue puts the messages that have packet identifiers back into the queue of a session. The others
// stay in the file alone.
func (r *restoring) queue(cl *mqtt.Client, key int64) error {
	var first int64 // of the others
	err := r.ledger.file.Queue(r.ctx, key, 0, func(q durable.Queued) bool {
		if q.PacketID == 0 {
			first = q.Seq
			return false
		}
		r.queued(cl, q)
		return true
	})
	if err != nil || first == 0 {
		return err
	}
	last, err := r.ledger.file.End(r.ctx, key)
	if err == nil {
		r.ledger.adoptBacklog(cl.ID, first, last)
	}
	return err
}

// queued puts a message back into the queue of a session.
func (r *restoring) queued(cl *mqtt.Client, q durable.Queued) {
	pk, err := decodePacket(q)
	if err != nil { // the other devices must be served all the same
		r.options.Logger.Error("a queued message cannot be read from the file of the sessions and is lost", "device", cl.Net.Conn.(*conn).device, "error", err)
		r.ledger.change(cl.ID, nil, func(c *durable.Change, key int64) { c.Dequeue(key, q.Seq) })
		return
	}
	content := new(body)
	if pk.FixedHeader.Type == packets.Publish {
		content = r.share(&pk)
	}
	pk.Created = int64(cl.State.Inflight.Len()) // the place in the queue, see inOrder
	r.ledger.requeue(cl.ID, pk.PacketID, content, q.Seq)
	cl.State.Inflight.Set(pk)
}

// retained brings back a retained message, unless it has expired.
func (r *restoring) retained(m durable.Retained) {
	pk, err := decodePacket(durable.Queued{Message: m.Message})
	if err != nil {
		r.options.Logger.Error("a retained message cannot be read from the file of the sessions and is lost", "device", m.Device, "error", err)
	}
	if err != nil || expired(pk, r.now) {
		var c durable.Change
		c.Forget(m.Topic)
		r.ledger.file.Submit(&c, nil)
		return
	}
	pk.PacketID = 0
	pk.Origin = m.Origin
	pk.FixedHeader.Retain = true
	r.ledger.mustRetain(m.Topic, m.Device, r.share(&pk))
	r.server.Topics.RetainMessage(pk)
}

// share returns the content of a message, and makes the message use that of an equal one if there
// is one.
func (r *restoring) share(pk *packets.Packet) *body {
	content := newBody(*pk)
	sum := sha256.New()
	_, _ = io.WriteString(sum, pk.TopicName+"\x00") // which no topic contains
	_, _ = sum.Write(pk.Payload)
	key := messageKey{bytes: content.bytes}
	sum.Sum(key.sum[:0])
	same, ok := r.shared[key]
	if !ok {
		same = sharedMessage{pk.TopicName, pk.Payload, content}
		r.shared[key] = same
	}
	pk.TopicName, pk.Payload = same.topic, same.payload
	return same.body
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
// and with the version of its publisher.
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
