package broker

import (
	"context"
	"errors"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

var (
	errBadPayload = errors.New("payload is not acceptable")
	errOverQuota  = errors.New("device has as much stored as it may have")
	// errNotStored also ends the connection.
	errNotStored = errors.New("device data was not stored")
)

// OnPublish decides about one message before mochi acknowledges it.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := cl.Net.Conn.(*conn)
	var kept durable.Receipt
	if pk.FixedHeader.Qos < 2 {
		return pk, h.b.accept(c, cl, pk, &kept)
	}
	switch h.b.openHandshake(cl, pk.PacketID, &kept) {
	case dropNone:
	case dropDisk:
		_ = h.b.kept(c, cl, &kept) // which ends the connection
		return pk, packets.ErrRejectPacket
	default:
		h.b.counts.refused.Add(1)
		if c.mqtt5 {
			return pk, decline(cl, pk, packets.ErrQuotaExceeded)
		}
		c.unstored = true // the device can only send it again on its next connection
		return pk, packets.ErrRejectPacket
	}
	err := h.b.accept(c, cl, pk, &kept)
	if errors.Is(err, packets.ErrRejectPacket) { // there will be no PUBREL
		h.b.dequeue(cl, pk.PacketID)
	}
	return pk, err
}

// openHandshake charges for the state that a message of QoS 2 leaves in the session until its
// PUBREL, or returns why there is no room. The receipt is for the file.
func (b *Broker) openHandshake(cl *mqtt.Client, id uint16, r *durable.Receipt) dropCause {
	b.sessions.RLock()
	defer b.sessions.RUnlock()
	if takenOver(cl) {
		return dropSession
	}
	return b.ledger.enqueue(cl.ID, id, new(body), keepPacket(ack(packets.Pubrec, id)), r)
}

// accept handles a message and then waits for the receipt, which has what the file has to keep of it.
// It returns what mochi is to do with the message.
func (b *Broker) accept(c *conn, cl *mqtt.Client, pk packets.Packet, r *durable.Receipt) error {
	err := b.handle(c, cl, pk, r)
	if pk.FixedHeader.Qos > 0 && errors.Is(err, packets.CodeSuccessIgnore) && b.kept(c, cl, r) != nil {
		return packets.ErrRejectPacket
	}
	return err
}

// handle stores or publishes a message, and returns what mochi is to do with it.
func (b *Broker) handle(c *conn, cl *mqtt.Client, pk packets.Packet, kept *durable.Receipt) error {
	r := routeOf(pk.TopicName)
	if c.gateway != nil && r == routeUnsupported {
		r = gatewayRoute(pk.TopicName)
	}
	switch r {
	case routeTelemetry:
		return b.ingest(c, cl, pk, b.options.Telemetry)
	case routeAttributes:
		return b.ingest(c, cl, pk, b.options.Attributes)
	case routeChildTelemetry, routeChildAttributes, routeChildConnect, routeChildDisconnect:
		return b.ingest(c, cl, pk, b.childSave(c.gateway, r))
	case routeChildAttributeRequest:
		return b.childRequest(c, cl, pk)
	case routeChildRPCResponse:
		return b.answerChildCall(c, cl, pk)
	case routeRPC, routeAttributeRequest:
		_, topic := requestOf(pk.TopicName)
		return b.request(c, cl, pk, r, topic)
	case routeRPCResponse:
		_, number := requestOf(pk.TopicName)
		return b.answerCall(c, cl, pk, number)
	case routeUnsupported:
		b.refuseTopic(c.device, pk.TopicName)
		return decline(cl, pk, packets.ErrTopicNameInvalid)
	case routeRefused:
		b.counts.refused.Add(1)
		return decline(cl, pk, packets.ErrNotAuthorized)
	}
	if !b.publish(c.device, pk, kept) {
		b.counts.refused.Add(1)
		return decline(cl, pk, packets.ErrQuotaExceeded)
	}
	return packets.CodeSuccessIgnore
}

// saveFunc stores what a device has published.
type saveFunc = func(ctx context.Context, device string, payload []byte) error

// ingest stores device data and returns what mochi is to do with the message.
func (b *Broker) ingest(c *conn, cl *mqtt.Client, pk packets.Packet, save saveFunc) error {
	switch err := b.store(c.device, save, pk.Payload); {
	case err == nil:
		return packets.CodeSuccessIgnore
	case errors.Is(err, errBadPayload):
		return decline(cl, pk, packets.ErrPayloadFormatInvalid)
	case errors.Is(err, errOverQuota):
		return decline(cl, pk, packets.ErrQuotaExceeded)
	case pk.FixedHeader.Qos == 0:
		return packets.CodeSuccessIgnore
	}
	b.disconnectUnstored(c, cl)
	return packets.ErrRejectPacket
}

// store stores device data, and counts and logs the outcome. Its errors are errBadPayload,
// errOverQuota and errNotStored.
func (b *Broker) store(device string, save saveFunc, payload []byte) error {
	ctx, cancel := context.WithTimeout(b.storing, b.options.StoreTimeout)
	defer cancel()
	switch err := save(ctx, device, payload); {
	case err == nil:
		b.counts.stored.Add(1)
		return nil
	case b.options.OverQuota(err):
		b.counts.badPayloads.Add(1)
		if b.full.first(device, time.Now()) {
			b.options.Logger.Warn("device has as much stored as it may have, and what it sends is dropped; the next warning about this device comes tomorrow at the earliest",
				"device", device, "error", err)
		}
		return errOverQuota
	case b.options.BadPayload(err):
		b.counts.badPayloads.Add(1)
		b.options.Logger.Warn("device sent a payload that cannot be stored", "device", device, "error", err)
		return errBadPayload
	default:
		b.counts.storeErrors.Add(1)
		b.options.Logger.Error("device data not stored", "device", device, "error", err)
		return errNotStored
	}
}

// decline answers a message that is not accepted. mochi would answer QoS 2 with the wrong
// packet, so MQTT 5 clients get theirs here. For older ones the standard has only an
// acknowledgement.
func decline(cl *mqtt.Client, pk packets.Packet, code packets.Code) error {
	if cl.Properties.ProtocolVersion != 5 {
		return packets.CodeSuccessIgnore
	}
	ack := packets.Packet{PacketID: pk.PacketID, ReasonCode: code.Code}
	switch pk.FixedHeader.Qos {
	case 1:
		ack.FixedHeader.Type = packets.Puback
	case 2:
		ack.FixedHeader.Type = packets.Pubrec
	default:
		return packets.ErrRejectPacket
	}
	_ = cl.WritePacket(ack)
	return packets.ErrRejectPacket
}
