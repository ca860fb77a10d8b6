package broker

import (
	"context"
	"fmt"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// kept waits until what the receipt is for is in the file. After an error the device must get no
// acknowledgement, and has to connect again.
func (b *Broker) kept(c *conn, cl *mqtt.Client, r *durable.Receipt) error {
	if r.Empty() { // as for almost all messages
		return nil
	}
	ctx, cancel := context.WithTimeout(b.storing, b.options.StoreTimeout)
	defer cancel()
	err := r.Wait(ctx)
	if err == nil {
		return nil
	}
	b.counts.keepErrors.Add(1)
	b.options.Logger.Error("the session of a device was not kept", "device", c.device, "error", err)
	b.disconnectUnstored(c, cl)
	return fmt.Errorf("keep the session: %w", err)
}

// disconnectUnstored ends a connection because something could not be written to the disk.
func (b *Broker) disconnectUnstored(c *conn, cl *mqtt.Client) {
	c.unstored = true
	if c.mqtt5 {
		last := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  packets.ErrImplementationSpecificError.Code,
		}
		last.Properties.ReasonString = errNotStored.Error()
		_ = cl.WritePacket(last)
	}
}

// keep puts a change of a session into the file and waits for it, unless another connection has taken
// the session over: then the change would be one of that.
func (b *Broker) keep(c *conn, cl *mqtt.Client, change func(r *durable.Receipt)) error {
	var r durable.Receipt
	c.holdSessions()
	if !takenOver(cl) {
		change(&r)
	}
	c.releaseSessions()
	return b.kept(c, cl, &r)
}

// keepSubscriptions puts a change of the subscriptions of a session into the file, before the answer
// to the device. If that fails, there is no answer.
func (b *Broker) keepSubscriptions(c *conn, cl *mqtt.Client, change func(c *durable.Change, key int64)) {
	if b.keep(c, cl, func(r *durable.Receipt) { b.ledger.change(cl.ID, r, change) }) != nil {
		_ = c.Close()
	}
}

// released records that a subscriber has a message of QoS 2, before it gets PUBREL. Then it may use
// the identifier for another message, so that this one must not be sent again.
func (b *Broker) released(c *conn, cl *mqtt.Client, pk packets.Packet) error {
	return b.keep(c, cl, func(r *durable.Receipt) { b.ledger.released(cl.ID, pk.PacketID, r) })
}

// completed records the end of the handshake of a message of QoS 2 from a device, before it gets
// PUBCOMP. Then it may use the identifier for another message, which must not be taken for this one.
func (b *Broker) completed(c *conn, cl *mqtt.Client, pk packets.Packet) error {
	return b.keep(c, cl, func(r *durable.Receipt) { b.ledger.completed(cl.ID, pk.PacketID, r) })
}
