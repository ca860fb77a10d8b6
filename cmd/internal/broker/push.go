package broker

import "github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"

// PushAttributes sends a change of shared attributes to the sessions of a device that have
// subscribed to v1/devices/me/attributes, v2/a or v2/a/j. Of a device behind a gateway, whose name
// is gateway/name, the gateway gets the change on v1/gateway/attributes. Sessions without a
// connection get it when they go on. It does not block. What does not fit into the memory of the
// device is dropped and counted.
func (b *Broker) PushAttributes(device string, change []byte) {
	if name, child, ok := splitChild(device); ok {
		b.pushToGateway(name, child, change)
		return
	}
	for _, id := range b.ledger.sessionsOf(device) {
		cl, ok := b.server.Clients.Get(id)
		if !ok {
			continue
		}
		for _, topic := range []string{"v1/devices/me/attributes", "v2/a", "v2/a/j"} {
			b.answer(cl, topic, change, new(durable.Receipt))
		}
	}
}

// Has reports whether a device, or the gateway before it, has a session here, with or without a
// connection.
func (b *Broker) Has(device string) bool {
	name, _, _ := splitChild(device)
	return len(b.ledger.sessionsOf(name)) > 0
}
