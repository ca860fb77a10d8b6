package broker

import (
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// connect reads the CONNECT of a connection and answers it. connect and process are in place of
// mochi's EstablishConnection, which keeps two goroutines for each connection: one reads, and one
// waits for messages in a queue that is always empty here.
func (b *Broker) connect(c *conn) (*mqtt.Client, error) {
	c.due = time.Now().Add(b.options.ConnectTimeout)
	cl := b.server.NewClient(c, listenerID, "", false)
	pk, err := readPacket(cl)
	if err != nil {
		return nil, err
	}
	if pk.FixedHeader.Type != packets.Connect {
		return nil, packets.ErrProtocolViolationRequireFirstConnect // [MQTT-3.1.0-1]
	}
	cl.ParseConnect(listenerID, pk)
	cl.State.TopicAliases = b.noAliases
	code := validateConnect(pk)
	if code == packets.CodeSuccess {
		c.enterSessions() // until the session is established, with its queue sent
		code = b.begin(c, cl, newWill(c, cl, pk))
	}
	if code != packets.CodeSuccess {
		c.leaveSessions()
		_ = b.server.SendConnack(cl, code, false, nil)
		return nil, code
	}
	if err := b.establish(c, cl, pk); err != nil {
		return nil, err
	}
	c.backlog = c.reader || b.ledger.hasBacklog(cl.ID)
	c.leaveSessions()
	if c.backlog {
		b.refill(c, cl)
	}
	return cl, nil
}

// validateConnect returns the code of the CONNACK for a CONNECT that breaks the protocol.
func validateConnect(pk packets.Packet) packets.Code {
	if code := pk.ConnectValidate(); code != packets.CodeSuccess {
		return code
	}
	if pk.ProtocolVersion < 5 && !pk.Connect.Clean && pk.Connect.ClientIdentifier == "" {
		return packets.ErrUnspecifiedError
	}
	return packets.CodeSuccess
}

// begin admits a client and prepares its connection, or returns why it cannot connect. Called with
// sessions held.
func (b *Broker) begin(c *conn, cl *mqtt.Client, will *will) packets.Code {
	if code := b.admission(c, cl, will); code != packets.CodeSuccess {
		return code
	}
	version := cl.Properties.ProtocolVersion
	c.mqtt5 = version == 5
	c.out.connect(version, cl.Properties.Props.ReceiveMaximum, cl.Properties.Props.MaximumPacketSize)
	// This turns off mochi's flow control, see egress, and with it a lookup after each packet
	// that can deadlock.
	cl.Properties.Props.ReceiveMaximum = 0
	cl.State.Inflight.ResetSendQuota(0)
	b.wills.set(c, will)
	c.client.Store(cl)
	b.counts.clients.Add(1)
	return packets.CodeSuccess
}

// admission checks what only the broker knows. The proxy has checked the rest. If it returns
// success, the device is charged for its session and its Will.
func (b *Broker) admission(c *conn, cl *mqtt.Client, will *will) packets.Code {
	if will != nil && CheckWill(will.message.TopicName) != nil {
		return packets.ErrNotAuthorized
	}
	if c.authMethod { // the proxy takes out those that it knows [MQTT-4.12.0-1]
		return packets.ErrBadAuthenticationMethod
	}
	if owner := b.owner(cl.ID); owner != nil && owner.device != c.device {
		return packets.ErrClientIdentifierNotValid
	}
	if !b.ledger.chargeWill(c.device, will.cost()) {
		return packets.ErrQuotaExceeded
	}
	if !b.ledger.openSession(cl.ID, c.device) {
		b.ledger.releaseWill(c.device, will.cost())
		return packets.ErrQuotaExceeded
	}
	b.ledger.setReader(cl.ID, c.reader)
	return packets.CodeSuccess
}

// owner returns the latest connection of a session, nil if there is no such session.
func (b *Broker) owner(clientID string) *conn {
	cl, ok := b.server.Clients.Get(clientID)
	if !ok {
		return nil
	}
	c, _ := cl.Net.Conn.(*conn)
	return c
}

// establish begins or resumes the session of a client, and sends CONNACK and what waits for it.
// Then it brings the account of a session that was taken over in line with what is left of it:
// packets of its previous connection may have changed it meanwhile. Called with sessions held.
func (b *Broker) establish(c *conn, cl *mqtt.Client, pk packets.Packet) error {
	b.wills.resume(cl.ID, pk.Connect.Clean, b.owner(cl.ID))
	present := b.inherit(cl, pk.Connect.Clean)
	b.server.Clients.Add(cl)
	if err := b.server.SendConnack(cl, packets.CodeSuccess, present, nil); err != nil {
		return err
	}
	if present {
		if err := cl.ResendInflightMessages(true); err != nil {
			return err
		}
	}
	b.ledger.setSubscriptions(cl.ID, cl.State.Subscriptions.GetAll())
	b.ledger.keepQueued(cl.ID, func(id uint16) bool {
		_, ok := cl.State.Inflight.Get(id)
		return ok
	})
	b.ledger.begin(cl, pk.Connect.Clean)
	return nil
}

// inherit ends the previous connection of a session, if there is one, and gives cl the
// subscriptions and the queue, unless the session ends because the client wants a fresh one or
// because that is all the previous one asked for. It reports whether the session goes on. Called
// with sessions held.
func (b *Broker) inherit(cl *mqtt.Client, fresh bool) (present bool) {
	old, ok := b.server.Clients.Get(cl.ID)
	if !ok {
		return false
	}
	_ = b.server.DisconnectClient(old, packets.ErrSessionTakenOver) // [MQTT-3.1.4-3]
	previous := old.Net.Conn.(*conn)
	if fresh || old.Properties.Clean && old.Properties.ProtocolVersion < 5 { // [MQTT-3.1.2-4]
		b.server.UnsubscribeClient(old)
		old.ClearInflights()
		previous.takenOver.Store(true)
		return false
	}
	previous.takenOver.Store(true)
	for _, pk := range old.State.Inflight.GetAll(false) {
		cl.State.Inflight.Set(pk)
		old.State.Inflight.Delete(pk.PacketID)
	}
	for filter, sub := range old.State.Subscriptions.GetAll() { // the index has them by cl.ID
		cl.State.Subscriptions.Add(filter, sub)
		old.State.Subscriptions.Delete(filter)
	}
	return true
}

// takenOver reports whether another connection has taken the session of cl over. mochi's own
// IsTakenOver is always false, because inherit takes sessions over.
func takenOver(cl *mqtt.Client) bool { return cl.Net.Conn.(*conn).takenOver.Load() }
