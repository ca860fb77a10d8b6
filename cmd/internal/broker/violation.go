package broker

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// violates reports whether a packet breaks the protocol in a way that mochi overlooks:
//   - a packet identifier of 0 where one is needed [MQTT-2.2.1-3]
//   - an acknowledgement that does not belong to the QoS of its message [MQTT-4.3.1-1]
//   - an empty topic filter [MQTT-4.7.3-1]
//   - a DISCONNECT that gives the session an expiry which CONNECT did not ask for
//     [MQTT-3.14.2-2]
//
// An acknowledgement of an identifier that is not in use is not among them: the session
// may have forgotten its message meanwhile.
func violates(cl *mqtt.Client, pk packets.Packet) bool {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return pk.FixedHeader.Qos > 0 && pk.PacketID == 0
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		return pk.PacketID == 0 || !acknowledges(cl, pk)
	case packets.Pubrel:
		return pk.PacketID == 0
	case packets.Subscribe, packets.Unsubscribe:
		return pk.PacketID == 0 || hasEmptyFilter(pk)
	case packets.Disconnect:
		return cl.Properties.ProtocolVersion == 5 && cl.Properties.Props.SessionExpiryInterval == 0 &&
			pk.Properties.SessionExpiryInterval > 0
	}
	return false
}

// acknowledges reports whether an acknowledgement fits the message with its identifier.
func acknowledges(cl *mqtt.Client, ack packets.Packet) bool {
	sent, ok := cl.State.Inflight.Get(ack.PacketID)
	if !ok || sent.FixedHeader.Type == packets.Pubrec {
		return true // PUBREC is of the other direction, see inward
	}
	switch ack.FixedHeader.Type {
	case packets.Puback:
		return sent.FixedHeader.Type == packets.Publish && sent.FixedHeader.Qos == 1
	case packets.Pubrec: // another one after its PUBREL was sent is no error
		return sent.FixedHeader.Type == packets.Publish && sent.FixedHeader.Qos == 2 ||
			sent.FixedHeader.Type == packets.Pubrel
	default:
		return sent.FixedHeader.Type == packets.Pubrel
	}
}

func hasEmptyFilter(pk packets.Packet) bool {
	for _, sub := range pk.Filters {
		if sub.Filter == "" {
			return true
		}
	}
	return false
}
