package inspect

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// fromBroker is the judge of what the broker sends. It completes the answers to requests that
// were passed on in part, and maps the topics of messages back.
type fromBroker struct {
	filter Filter
	*shared
	rights    *Rights      // for the packet at hand
	received  *identifiers // dropped QoS 2 messages whose PUBREL has not come
	aliases   aliases
	recent    recent
	maxPacket int32 // the largest that the client takes, in bytes
}

// need can be called before a request is added and decide after that. This does no harm: the
// packet in between is not the answer to that request, which has not been passed on yet.
func (b *fromBroker) need(packet []byte, size int) int {
	if now := b.control.rights.Load(); b.rights != now {
		b.rights = now
		b.recent.forget()
		b.aliases.renamed()
	}
	switch packets.Type(packet[0] >> 4) {
	case packets.UNSUBACK:
		if b.filter.level >= 5 || b.requests.any() {
			return size
		}
	case packets.SUBACK:
		if b.requests.any() || b.subscriptions.any() {
			return size
		}
	case packets.PUBLISH:
		if b.rights.Topics != nil {
			return publishHead(packet, size, b.filter.level)
		}
	case packets.PUBREL:
		if b.received != nil {
			return size
		}
	}
	return fixedHeader(packet)
}

func (b *fromBroker) decide(head []byte, size int) (verdict, error) {
	work := b.filter.work
	work[scratch] = work[scratch][:0]
	switch packets.Type(head[0] >> 4) {
	case packets.SUBACK, packets.UNSUBACK:
		if len(head) == size {
			return b.complete(head)
		}
	case packets.PUBLISH:
		if b.rights.Topics == nil {
			break
		}
		if v, ok := b.again(head, size); ok {
			return v, nil
		}
		return b.publish(head, size)
	case packets.PUBREL:
		if b.received != nil && len(head) == size {
			return b.release(head)
		}
	}
	return verdict{}, nil
}

// complete adds the codes of the filters that were taken out to a SUBACK or an UNSUBACK.
func (b *fromBroker) complete(raw []byte) (verdict, error) {
	var ack packets.Suback
	switch err := ack.Parse(raw, b.filter.level); {
	case err != nil && ack.Type == packets.UNSUBACK && !b.requests.any():
		b.control.refused()
		return verdict{}, nil // it is for the client to judge
	case err != nil:
		return verdict{}, fmt.Errorf("the broker's answer: %w", err)
	}
	if ack.Type == packets.UNSUBACK && slices.ContainsFunc(ack.Codes, func(c packets.ReasonCode) bool { return c >= 0x80 }) {
		b.control.refused()
	}
	if ack.Type == packets.SUBACK {
		b.subscriptions.answered(ack.PacketID, ack.Codes)
	}
	ours := b.requests.take(ack.PacketID, ack.Type)
	if ours == nil {
		return verdict{}, nil
	}
	codes, ok := merge(ours, ack.Codes)
	if !ok {
		return verdict{}, &packets.MalformedError{Type: ack.Type, Level: b.filter.level,
			Rule: "MQTT-3.9.3-1", Code: packets.ProtocolError, Reason: "not one reason code for each topic filter"}
	}
	ack.Codes = codes
	b.filter.work[scratch] = ack.Append(b.filter.work[scratch], b.filter.level)
	return verdict{instead: b.filter.work[scratch]}, nil
}

// again decides about a message that is like the last one.
func (b *fromBroker) again(head []byte, size int) (verdict, bool) {
	if b.received != nil {
		return verdict{}, false
	}
	v, ok := b.recent.again(b.filter.work[scratch], head, size, b.filter.level, int(b.maxPacket))
	if v.instead != nil {
		b.filter.work[scratch] = v.instead
	}
	return v, ok
}

// publish maps the topic of a message back. It drops a message that is not for the device, or
// too large for it [MQTT-3.1.2-25].
func (b *fromBroker) publish(head []byte, size int) (verdict, error) {
	var p packets.Publish
	n, err := p.Parse(head, b.filter.level)
	if err != nil {
		return verdict{}, fmt.Errorf("the broker's message: %w", err)
	}
	topic := p.Topic
	alias, aliased := p.Properties.TopicAlias()
	if aliased {
		if topic, err = b.aliases.resolve(alias, topic); err != nil {
			return verdict{}, fmt.Errorf("the broker's message: %w", err)
		}
	}
	var denied string
	if b.filter.work[topicName], denied = b.down(topic); denied != "" {
		b.tell(Denied{Type: packets.PUBLISH, Down: true, Topic: topic, QoS: p.QoS, Retain: p.Retain, Reason: denied})
		return b.drop(&p), nil
	}
	out := p
	out.Properties = b.withResponse(p.Properties)
	if known := aliased && b.aliases.known(alias); !known || len(p.Topic) > 0 {
		out.Topic = b.filter.work[topicName]
	}
	if bytes.Equal(out.Topic, p.Topic) && bytes.Equal(out.Properties, p.Properties) {
		b.passed(head[0], &p, alias)
		return verdict{}, nil
	}
	b.filter.work[scratch] = out.AppendHeader(b.filter.work[scratch], b.filter.level, size-n)
	if len(b.filter.work[scratch])+size-n > int(b.maxPacket) {
		b.filter.work[scratch] = b.filter.work[scratch][:0]
		return b.drop(&p), nil
	}
	b.passed(head[0], &p, alias)
	return verdict{instead: b.filter.work[scratch]}, nil
}

// passed records that p is passed on with the topicName of the work. first is the first byte of
// the packet, and alias is 0 if it has none.
func (b *fromBroker) passed(first byte, p *packets.Publish, alias uint16) {
	if alias != 0 {
		b.aliases.passed(alias)
	} else {
		b.recent.remember(first, p, b.filter.work[topicName])
	}
	if p.QoS == 2 && b.received != nil {
		b.received.remove(p.PacketID) // its PUBREL is for the device
	}
}

// down returns the device's name of a topic, or the reason why the topic is not for the device.
func (b *fromBroker) down(topic []byte) (name []byte, denied string) {
	name, v := b.rights.Topics.Down(b.filter.work[topicName][:0], topic)
	return name, refusal(v)
}

// withResponse returns p with the response topic, if there is one, replaced by the device's
// name, or removed if it is not for the device.
func (b *fromBroker) withResponse(p packets.Properties) packets.Properties {
	topic, ok := p.ResponseTopic()
	if !ok {
		return p
	}
	name, v := b.rights.Topics.Down(nil, []byte(topic))
	switch {
	case refusal(v) != "":
		return p.Without(packets.ResponseTopic)
	case string(name) == topic:
		return p
	}
	return p.With(packets.ResponseTopic, string(name))
}

func (b *fromBroker) tell(d Denied) {
	if b.denied != nil {
		b.denied(d)
	}
}

// drop drops a message and acknowledges it to the broker as the device would.
func (b *fromBroker) drop(p *packets.Publish) verdict {
	if p.QoS == 0 {
		return verdict{drop: true}
	}
	ack := packets.Ack{Type: packets.PUBACK, PacketID: p.PacketID}
	if p.QoS == 2 {
		ack.Type = packets.PUBREC
		if b.received == nil {
			b.received = &identifiers{}
		}
		b.received.add(p.PacketID)
	}
	b.filter.work[scratch] = ack.Append(b.filter.work[scratch], b.filter.level)
	return verdict{drop: true, answer: b.filter.work[scratch]}
}

// release answers the PUBREL of a dropped message.
func (b *fromBroker) release(raw []byte) (verdict, error) {
	var ack packets.Ack
	if err := ack.Parse(raw, b.filter.level); err != nil {
		return verdict{}, fmt.Errorf("the broker's answer: %w", err)
	}
	if !b.received.remove(ack.PacketID) {
		return verdict{}, nil
	}
	complete := packets.Ack{Type: packets.PUBCOMP, PacketID: ack.PacketID}
	b.filter.work[scratch] = complete.Append(b.filter.work[scratch], b.filter.level)
	return verdict{drop: true, answer: b.filter.work[scratch]}, nil
}
