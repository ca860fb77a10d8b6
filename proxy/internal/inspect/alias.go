package inspect

import (
	"bytes"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// aliases holds the topic aliases of one direction (MQTT 5.0 section 3.3.2.3.4).
type aliases struct {
	topics map[uint16]aliasedTopic
	size   int32 // in bytes, with overhead for each
	max    uint16
}

type aliasedTopic struct {
	topic []byte
	known bool // the receiver has been sent the alias with this topic
}

// resolve returns the topic of a PUBLISH with the alias id. If the topic in the packet is
// empty, that is the topic which the sender gave to the alias before.
func (a *aliases) resolve(id uint16, topic []byte) ([]byte, error) {
	if id > a.max {
		// 0x94 is "topic alias invalid".
		return nil, a.fault(0x94, "MQTT-3.3.2-9", "topic alias is above the receiver's maximum")
	}
	t, set := a.topics[id]
	switch {
	case len(topic) == 0 && !set:
		return nil, a.fault(packets.ProtocolError, "section 3.3.2.3.4", "topic alias stands for no topic")
	case len(topic) == 0, set && bytes.Equal(t.topic, topic):
		return t.topic, nil
	case set:
		a.size -= int32(len(t.topic))
	default:
		a.size += overhead
	}
	if a.size += int32(len(topic)); a.size > maxAliases {
		return nil, errAliases
	}
	if a.topics == nil {
		a.topics = map[uint16]aliasedTopic{}
	}
	t = aliasedTopic{topic: bytes.Clone(topic)}
	a.topics[id] = t
	return t.topic, nil
}

// renamed records that the receiver may know topics by other names from now on.
func (a *aliases) renamed() {
	for id, t := range a.topics {
		if t.known {
			a.topics[id] = aliasedTopic{topic: t.topic}
		}
	}
}

// known reports whether the receiver knows what the alias stands for.
func (a *aliases) known(id uint16) bool { return a.topics[id].known }

// passed records that the receiver is sent the alias with its topic.
func (a *aliases) passed(id uint16) {
	if t := a.topics[id]; !t.known {
		a.topics[id] = aliasedTopic{topic: t.topic, known: true}
	}
}

func (*aliases) fault(code packets.ReasonCode, rule, reason string) error {
	return &packets.MalformedError{Type: packets.PUBLISH, Level: 5, Rule: rule, Code: code, Reason: reason}
}
