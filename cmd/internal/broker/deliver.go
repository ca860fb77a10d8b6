package broker

import (
	"slices"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// publish retains a message of a device if it has the RETAIN flag, and gives it to every session that
// subscribed to its topic. It returns false, and does neither, if there is no room for another
// retained message. The receipt is for what the file has to keep of it. mochi itself uses a short
// queue for each client, which drops messages of every QoS when it is full.
func (b *Broker) publish(device string, pk packets.Packet, r *durable.Receipt) bool {
	content := newBody(pk)
	if pk.FixedHeader.Retain && !b.retain(device, pk, content, r) {
		return false
	}
	b.distribute(pk, content, r)
	return true
}

// distribute gives a message to every session that subscribed to its topic.
func (b *Broker) distribute(pk packets.Packet, content *body, r *durable.Receipt) {
	subscribers := b.server.Topics.Subscribers(pk.TopicName)
	if len(subscribers.Shared) > 0 {
		b.selectShared(subscribers)
		subscribers.MergeSharedSelected()
	}
	for clientID, sub := range subscribers.Subscriptions {
		b.deliver(clientID, sub, pk, content, r)
	}
}

// selectShared picks one member of each group at random, a connected one if there is any.
func (b *Broker) selectShared(subscribers *mqtt.Subscribers) {
	for _, members := range subscribers.Shared {
		var chosen string
		for clientID := range members { // in random order
			chosen = clientID
			if cl, ok := b.server.Clients.Get(clientID); ok && !cl.Closed() {
				break
			}
		}
		sub := members[chosen]
		if other, ok := subscribers.SharedSelected[chosen]; ok {
			sub = other.Merge(sub)
		}
		subscribers.SharedSelected[chosen] = sub
	}
}

// deliver sends a message to one client, or queues it for the session if there is no
// connection. It reports whether it has done so. If the receipt is nil, the message is not kept in
// the file.
func (b *Broker) deliver(clientID string, sub packets.Subscription, pk packets.Packet, content *body, r *durable.Receipt) bool {
	b.sessions.RLock() // no other connection takes the session over meanwhile
	defer b.sessions.RUnlock()
	return b.deliverHeld(clientID, sub, pk, content, r)
}

// deliverHeld is deliver, called with sessions held.
func (b *Broker) deliverHeld(clientID string, sub packets.Subscription, pk packets.Packet, content *body, r *durable.Receipt) bool {
	cl, ok := b.server.Clients.Get(clientID)
	if !ok || sub.NoLocal && pk.Origin == clientID {
		return false
	}
	pk.Properties.SubscriptionIdentifier = identifiers(sub)
	pk.FixedHeader.Dup = false
	pk.FixedHeader.Qos = min(pk.FixedHeader.Qos, sub.Qos)
	if !sub.FwdRetainedFlag && !sub.RetainAsPublished {
		pk.FixedHeader.Retain = false // [MQTT-3.3.1-12]
	}
	if pk.FixedHeader.Qos > 0 {
		spilled, cause := b.enqueue(cl, &pk, content, r)
		switch {
		case cause != dropNone:
			b.counts.dropped.count(cause)
			return false
		case spilled:
			return true
		}
		pk.Created = orderBase + b.order.Add(1) // read by inOrder alone
		cl.State.Inflight.Set(pk)
	}
	if !cl.Closed() {
		_ = cl.WritePacket(pk) // fails at the end of the connection
	}
	return true
}

// orderBase is above the times in seconds by which mochi numbers what it keeps of messages of QoS 2,
// so that they stay before the messages that are queued.
const orderBase = 1 << 40

// enqueue adds a message to the queue of a session and gives it a packet identifier, or returns why
// there is no room. If spilled is true, the message is in the file alone and will be sent later.
func (b *Broker) enqueue(cl *mqtt.Client, pk *packets.Packet, content *body, r *durable.Receipt) (spilled bool, cause dropCause) {
	id, err := cl.NextPacketID()
	if err != nil { // impossible: there are more identifiers than places in the queue
		return false, dropQueue
	}
	pk.PacketID = uint16(id)
	bytes, cause := b.ledger.enqueueMessage(cl.ID, *pk, content, r)
	if bytes > 0 {
		b.makeRoom(cl.ID, bytes)
	}
	return bytes > 0, cause
}

// identifiers returns the subscription identifiers of a message, in order.
func identifiers(sub packets.Subscription) []int {
	var ids []int
	if sub.Identifiers == nil && sub.Identifier > 0 {
		ids = append(ids, sub.Identifier)
	}
	for _, id := range sub.Identifiers {
		if id > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// retain keeps a message for future subscribers. An empty message only removes the one that it
// replaces. It returns false if there is no room: the device's memory is used up, or that of all,
// or there are too many retained messages.
func (b *Broker) retain(device string, pk packets.Packet, content *body, r *durable.Receipt) bool {
	if b.ledger.cannotKeep(r) {
		return true // but there will be no acknowledgement
	}
	b.retained.Lock()
	defer b.retained.Unlock()
	if len(pk.Payload) == 0 {
		b.forgetRetained(pk.TopicName, r)
		return true
	}
	if !b.ledger.retain(pk.TopicName, device, content) {
		return false
	}
	pk.PacketID = 0
	pk.FixedHeader.Dup = false
	b.server.Topics.RetainMessage(pk)
	if b.ledger.file != nil {
		var c durable.Change
		c.Retain(durable.Retained{Topic: pk.TopicName, Device: device, Origin: pk.Origin, Message: encodePacket(pk)})
		b.ledger.file.Submit(&c, r)
	}
	return true
}

// forgetRetained removes the retained message of a topic. b.retained is held.
func (b *Broker) forgetRetained(topic string, r *durable.Receipt) {
	if !b.ledger.release(topic) {
		return
	}
	var c durable.Change
	c.Forget(topic)
	b.ledger.file.Submit(&c, r)
	b.server.Topics.RetainMessage(packets.Packet{TopicName: topic}) // without a payload
}

// expireRetained removes the retained message of a topic if it has expired.
func (b *Broker) expireRetained(topic string, now time.Time) {
	b.retained.Lock()
	defer b.retained.Unlock()
	if pk, ok := b.server.Topics.Retained.Get(topic); ok && expired(pk, now) {
		b.forgetRetained(topic, nil)
	}
}

// matching returns the retained messages of a filter that have not expired. In mochi a/# does
// not include a.
func (b *Broker) matching(filter string) []packets.Packet {
	b.retained.RLock()
	defer b.retained.RUnlock()
	messages := b.server.Topics.Messages(filter)
	if parent, ok := strings.CutSuffix(filter, "/#"); ok && !strings.ContainsAny(parent, "+") {
		if pk, ok := b.server.Topics.Retained.Get(parent); ok {
			messages = append(messages, pk)
		}
	}
	now := time.Now()
	return slices.DeleteFunc(messages, func(pk packets.Packet) bool { return expired(pk, now) })
}

// sendRetained sends the retained messages of a filter to a new subscriber. It runs on the
// subscriber's own goroutine, so it may wait for the subscriber to read, instead of dropping
// what it does not read fast enough.
func (b *Broker) sendRetained(c *conn, cl *mqtt.Client, sub packets.Subscription) {
	sub.FwdRetainedFlag = true
	for _, pk := range b.matching(sub.Filter) {
		c.out.wait()
		if cl.Closed() {
			return
		}
		b.deliver(cl.ID, sub, pk, b.ledger.retainedBody(pk), new(durable.Receipt))
	}
}
