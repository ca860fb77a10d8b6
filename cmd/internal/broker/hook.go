package broker

import (
	"cmp"
	"slices"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// bridgeBit in the protocol level marks a bridge, as mosquitto sends it with MQTT 3.1 and 3.1.1.
const bridgeBit = 0x80

// hook is what mochi calls while it processes packets.
type hook struct {
	mqtt.HookBase
	b *Broker
}

func (*hook) ID() string { return listenerID }

func (*hook) Provides(method byte) bool {
	switch method {
	case mqtt.OnPacketRead, mqtt.OnACLCheck, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribe, mqtt.OnPublish,
		mqtt.OnPacketProcessed,
		mqtt.OnQosComplete, mqtt.OnQosDropped,
		mqtt.OnPacketEncode:
		return true
	}
	return false
}

// OnPacketRead corrects packets before mochi sees more of them than their encoding, and
// refuses those that break the protocol in a way that mochi overlooks. An error ends the
// connection.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, packets.ErrRejectPacket
	}
	if violates(cl, pk) {
		return pk, h.b.server.DisconnectClient(cl, packets.ErrProtocolViolation)
	}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		c.readConnect(&pk)
	case packets.Publish:
		h.b.counts.messagesIn.Add(1)
		pk.PacketID = inward(pk.PacketID)
		if pk.TopicName != "" && pk.TopicName[0] == '$' {
			pk.TopicName = refusedTopic
		}
	case packets.Pubrel:
		pk.PacketID = inward(pk.PacketID)
		return pk, h.b.completed(c, cl, pk)
	case packets.Subscribe, packets.Unsubscribe:
		pk.PacketID = inward(pk.PacketID)
	case packets.Puback, packets.Pubcomp:
		h.b.acknowledgeCall(c, cl, pk)
		c.out.acked(pk.PacketID)
	case packets.Pubrec:
		if pk.ReasonCode >= packets.ErrUnspecifiedError.Code {
			c.out.acked(pk.PacketID)
			break
		}
		return pk, h.b.released(c, cl, pk)
	case packets.Disconnect:
		c.readDisconnect(&pk)
	case packets.Auth:
		return pk, packets.ErrRejectPacket // no authentication is in progress here
	}
	return pk, nil
}

// inward negates the packet identifiers that clients choose, and back: 1 becomes 65535. Clients and
// mochi both count from 1, and mochi keeps both in one map, where the same identifier of one
// direction erases the message of the other.
func inward(id uint16) uint16 { return -id }

// readConnect removes the credentials, which are not needed here, and changes what mochi would
// refuse without reason.
func (c *conn) readConnect(pk *packets.Packet) {
	pk.Connect.Username, pk.Connect.Password = nil, nil
	pk.Connect.UsernameFlag, pk.Connect.PasswordFlag = false, false
	c.authMethod = pk.Properties.AuthenticationMethod != ""
	if level := pk.ProtocolVersion &^ bridgeBit; level != pk.ProtocolVersion && (level == 3 || level == 4) {
		pk.ProtocolVersion = level
		c.bridge = true
	}
	c.emptyWill = pk.Connect.WillFlag && len(pk.Connect.WillPayload) == 0
	if c.emptyWill {
		pk.Connect.WillPayload = []byte{0}
	}
}

// readDisconnect reads what mochi overlooks: a reason code without properties, which is the
// last byte that the client has sent, and the limit on the session's expiry.
func (c *conn) readDisconnect(pk *packets.Packet) {
	if c.mqtt5 && pk.FixedHeader.Remaining == 1 {
		pk.ReasonCode = c.last
	}
	pk.Properties.SessionExpiryInterval = min(pk.Properties.SessionExpiryInterval,
		c.broker.server.Options.Capabilities.MaximumSessionExpiryInterval)
}

// OnACLCheck decides about subscriptions. OnPublish, which can answer, decides about messages.
func (*hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	return write || readable(topic) && (!readersOnly(topic) || cl.Net.Conn.(*conn).reader)
}

// OnSubscribe checks the filters of a SUBSCRIBE. Until OnSubscribed the session cannot be taken
// over: mochi would leave subscriptions behind that belong to no session.
func (*hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := cl.Net.Conn.(*conn)
	c.holdSessions()
	lost := takenOver(cl)
	room := maxSubscriptions - cl.State.Subscriptions.Len()
	var cost int64 // of the new filters
	for i := range pk.Filters {
		sub := &pk.Filters[i]
		_, shared := sharedFilter(sub.Filter)
		_, existed := cl.State.Subscriptions.Get(sub.Filter)
		if c.bridge && !shared {
			// A bridge relies on both and cannot ask for them.
			sub.NoLocal, sub.RetainAsPublished = true, true
		}
		if shared || existed && sub.RetainHandling == 1 {
			sub.RetainHandling = 2 // no retained messages
		}
		unserved, isUnserved := unservedFilter(sub.Filter)
		if unserved == familyGateway && (c.reader || c.gateway != nil && !shared && gatewayFilter(sub.Filter)) {
			isUnserved = false
		}
		switch {
		case lost, !validFilter(sub.Filter), shared && sub.NoLocal: // [MQTT-3.8.3-4]
			sub.Filter = "" // answered with 0x8F, topic filter invalid
		case isUnserved:
			c.broker.refuseFilter(c.device, unserved)
			sub.Filter = ""
		case existed:
		case room <= 0 || !c.broker.ledger.roomFor(cl.ID, cost+filterCost(sub.Filter)):
			sub.Filter = filterOverQuota
		default:
			room--
			cost += filterCost(sub.Filter)
		}
	}
	return pk
}

// OnSubscribed keeps mochi from sending retained messages, of which it drops those that its
// queue does not hold.
func (*hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	c := cl.Net.Conn.(*conn)
	c.broker.countSubscriptions(cl)
	c.releaseSessions()
	for i := range pk.Filters {
		sub := &pk.Filters[i]
		switch {
		case codes[i] < packets.ErrUnspecifiedError.Code && sub.RetainHandling != 2:
			c.subscribed = append(c.subscribed, *sub)
		case sub.Filter == filterOverQuota && c.mqtt5:
			codes[i] = packets.ErrQuotaExceeded.Code
		}
		sub.RetainHandling = 2
	}
	c.broker.keepSubscriptions(c, cl, func(change *durable.Change, key int64) {
		for _, f := range pk.Filters {
			if sub, ok := cl.State.Subscriptions.Get(f.Filter); ok {
				change.Subscribe(key, subscription(sub))
			}
		}
	})
}

// OnUnsubscribe precedes the UNSUBACK. OnUnsubscribed would, but mochi also calls it at the end of a
// session. Until OnPacketProcessed the session cannot be taken over: mochi would remove the
// subscriptions of the connection that did.
func (h *hook) OnUnsubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := cl.Net.Conn.(*conn)
	h.b.keepSubscriptions(c, cl, func(change *durable.Change, key int64) {
		for _, f := range pk.Filters {
			change.Unsubscribe(key, f.Filter)
		}
	})
	c.holdSessions()
	if takenOver(cl) {
		pk.Filters = nil
	}
	return pk
}

// OnPacketProcessed does the work that follows the answer to a packet.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, err error) {
	c := cl.Net.Conn.(*conn)
	switch {
	case pk.FixedHeader.Type == packets.Unsubscribe:
		c.holdSessions()
		h.b.countSubscriptions(cl)
		c.releaseSessions()
	case err != nil:
	case pk.FixedHeader.Type == packets.Disconnect:
		h.b.wills.set(c, nil) // [MQTT-3.14.4-3]
	case pk.FixedHeader.Type == packets.Subscribe:
		for _, sub := range c.subscribed {
			h.b.sendRetained(c, cl, sub)
			if c.reader {
				h.b.sendPresence(c, cl, sub)
			}
		}
		c.subscribed = nil
	}
	if c.backlog {
		h.b.refill(c, cl)
	}
}

// countSubscriptions charges for the subscriptions that a session has now, unless another
// connection has taken it over. Called with sessions held.
func (b *Broker) countSubscriptions(cl *mqtt.Client) {
	if !takenOver(cl) {
		b.ledger.setSubscriptions(cl.ID, cl.State.Subscriptions.GetAll())
	}
}

// OnQosComplete follows the last acknowledgement of a message.
func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) { h.b.dequeue(cl, pk.PacketID) }

// OnQosDropped follows the end of a message that was not acknowledged.
func (h *hook) OnQosDropped(cl *mqtt.Client, pk packets.Packet) { h.b.dequeue(cl, pk.PacketID) }

// dequeue ends the charge for a message, unless another connection has taken the session
// over: there the message may still be in the queue.
func (b *Broker) dequeue(cl *mqtt.Client, id uint16) {
	if !takenOver(cl) {
		b.ledger.dequeue(cl.ID, id)
	}
}

// OnPacketEncode corrects what mochi sends.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := cl.Net.Conn.(*conn)
	switch pk.FixedHeader.Type {
	case packets.Connack:
		h.b.encodeConnack(c, cl, &pk)
	case packets.Publish:
		// The egress drops what is too large; user properties must not be cut [MQTT-3.3.2-17].
		pk.Mods.MaxSize = 0
		pk.Mods.DisallowProblemInfo = false // which does not concern PUBLISH
	case packets.Pubrec:
		pk.PacketID = inward(pk.PacketID)
		// A repeated PUBLISH is not an error [MQTT-4.3.3-10].
		if pk.ReasonCode == packets.ErrPacketIdentifierInUse.Code {
			pk.ReasonCode, pk.Properties.ReasonString = 0, ""
		}
	case packets.Puback, packets.Pubcomp:
		pk.PacketID = inward(pk.PacketID)
	case packets.Suback, packets.Unsuback:
		pk.PacketID = inward(pk.PacketID)
		pk.Properties.User = nil // the client's own
	}
	return pk
}

// encodeConnack completes a CONNACK. On success mochi sends the session's queue next, so that
// is put in order first.
func (b *Broker) encodeConnack(c *conn, cl *mqtt.Client, pk *packets.Packet) {
	if pk.SessionPresent {
		b.inOrder(cl)
	}
	switch cl.Properties.ProtocolVersion {
	case 5:
		pk.Properties.MaximumPacketSize = uint32(b.options.MaxPacket)
		pk.Properties.ReceiveMaximum = receiveMax
		return
	case 3:
		pk.SessionPresent = false // the bit came with 3.1.1
	}
	switch pk.ReasonCode {
	case packets.ErrUnspecifiedError.Code: // no client id, no clean session [MQTT-3.1.3-8]
		pk.ReasonCode = packets.Err3ClientIdentifierNotValid.Code
	case packets.ErrQuotaExceeded.Code:
		pk.ReasonCode = packets.Err3ServerUnavailable.Code
	case packets.ErrNotAuthorized.Code:
		pk.ReasonCode = packets.Err3NotAuthorized.Code
	case packets.ErrMalformedPacket.Code, packets.ErrProtocolViolation.Code:
		_ = c.Close() // older clients get no answer to that
	}
}

// inOrder numbers a session's queue in the order of delivery, because mochi resends it by the low 16
// bits of a number, and removes what has expired and what is not for the device any more.
func (b *Broker) inOrder(cl *mqtt.Client) {
	queue, now := cl.State.Inflight, time.Now()
	for i, m := range byAge(queue) {
		if expired(m, now) || notForDevice(cl, m.TopicName) {
			queue.Delete(m.PacketID)
			b.ledger.dequeue(cl.ID, m.PacketID)
			continue
		}
		m.Created = int64(i)
		queue.Set(m)
	}
}

// byAge returns the packets of a session's queue, the oldest first.
func byAge(queue *mqtt.Inflight) []packets.Packet {
	messages := queue.GetAll(false)
	slices.SortFunc(messages, func(a, b packets.Packet) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.PacketID, b.PacketID))
	})
	return messages
}
