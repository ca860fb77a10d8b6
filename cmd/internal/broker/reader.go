package broker

import (
	"context"
	"maps"
	"strconv"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// The levels above the topics for readers.
const (
	devicesRoot  = "v1/devices/"
	gatewaysRoot = "v1/gateway/"
)

// readerTopic returns the topic on which readers get one kind of data of a device, which may be one
// behind a gateway, given as gateway/name. No device can publish there.
func readerTopic(device, kind string) string {
	root := devicesRoot
	if _, _, behind := splitChild(device); behind {
		root = gatewaysRoot
	}
	return root + device + "/" + kind
}

// isReaderTopic reports whether a topic is one for readers. Those of gateways themselves have at
// most two levels below v1/gateway.
func isReaderTopic(topic string) bool {
	if rest, ok := strings.CutPrefix(topic, gatewaysRoot); ok {
		return strings.Count(rest, "/") > 1
	}
	return readersOnly(topic)
}

// readersOnly reports whether a filter, shared or not, is for readers only. Filters for what gateways
// send are decided by unservedFilter.
func readersOnly(filter string) bool {
	if inner, ok := sharedFilter(filter); ok {
		filter = inner
	}
	rest, ok := strings.CutPrefix(filter, devicesRoot)
	return ok && !within(rest, "me")
}

// PublishTelemetry publishes messages of a device, each on its own, to the readers that have
// subscribed to v1/devices/NAME/telemetry, or v1/gateway/GATEWAY/NAME/telemetry if it is behind a
// gateway and called GATEWAY/NAME. It is called with messages that have been stored, before
// [Options].Telemetry returns: then they are in the queues of readers before the device gets its
// acknowledgement. It does not wait for readers, and without any it does nothing. It fails if the
// messages could not be kept for readers that are away.
func (b *Broker) PublishTelemetry(ctx context.Context, device string, messages []payload.Message) error {
	return b.publishStored(ctx, device, "telemetry", messages...)
}

// PublishAttributes does the same with client attributes, on v1/devices/NAME/attributes. updated is
// when they were set, in milliseconds since 1970.
func (b *Broker) PublishAttributes(ctx context.Context, device string, updated int64, fields []payload.Field) error {
	return b.publishStored(ctx, device, "attributes", payload.Message{TS: updated, Fields: fields})
}

func (b *Broker) publishStored(ctx context.Context, device, kind string, messages ...payload.Message) error {
	if b.ledger.readers.Load() == 0 {
		return nil
	}
	topic := readerTopic(device, kind)
	readers := b.readersOf(topic)
	if len(readers) == 0 {
		return nil
	}
	var kept durable.Receipt
	for _, m := range messages {
		data := append([]byte(`{"ts":`), strconv.FormatInt(m.TS, 10)...)
		data = append(payload.AppendObject(append(data, `,"values":`...), m.Fields), '}')
		b.publishToReaders(readers, topic, data, &kept)
	}
	return kept.Wait(ctx)
}

// readersOf returns the sessions of readers that have subscribed to a topic for readers, with their
// subscriptions as one. Of those that share a subscription it has one.
func (b *Broker) readersOf(topic string) map[string]packets.Subscription {
	noReader := func(clientID string, _ packets.Subscription) bool { return !b.ledger.isReader(clientID) }
	found := b.server.Topics.Subscribers(topic)
	maps.DeleteFunc(found.Subscriptions, noReader)
	maps.DeleteFunc(found.Shared, func(_ string, members map[string]packets.Subscription) bool {
		maps.DeleteFunc(members, noReader)
		return len(members) == 0
	})
	if len(found.Shared) > 0 {
		b.selectShared(found)
		found.MergeSharedSelected()
	}
	return found.Subscriptions
}

// readerMessage returns a message of the broker to readers.
func readerMessage(topic string, data []byte) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1},
		TopicName:   topic, Payload: data,
	}
}

// publishToReaders gives one message to each of the sessions that are still those of readers.
func (b *Broker) publishToReaders(readers map[string]packets.Subscription, topic string, data []byte, r *durable.Receipt) {
	pk := readerMessage(topic, data)
	content := newBody(pk)
	for clientID, sub := range readers {
		b.deliverToReader(clientID, sub, pk, content, r)
	}
}

// deliverToReader is deliver, unless another connection has taken the session over that is not one
// of a reader.
func (b *Broker) deliverToReader(clientID string, sub packets.Subscription, pk packets.Packet, content *body, r *durable.Receipt) {
	b.sessions.RLock()
	defer b.sessions.RUnlock()
	if b.ledger.isReader(clientID) {
		b.deliverHeld(clientID, sub, pk, content, r)
	}
}
