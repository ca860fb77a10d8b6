package packets

import (
	"bytes"
	"slices"
)

// Publish is a PUBLISH packet, section 3.3 of each standard.
type Publish struct {
	Dup    bool
	QoS    byte // 0, 1 or 2
	Retain bool
	// Topic is the topic name. In MQTT 5.0 it may be empty if the properties contain a topic
	// alias.
	Topic []byte
	// PacketID is 0 if and only if QoS is 0.
	PacketID uint16
	// Properties of MQTT 5.0, section 3.3.2.3.
	Properties Properties
	Payload    []byte
}

// Parse reads a PUBLISH of the given protocol level. b has at least its first bytes and may
// have more than the packet. Parse returns the size in bytes of everything before the payload.
// Payload is the part of the payload that is in b; PacketSize returns the size of the whole
// packet. All fields then point into b.
//
// The error is io.ErrUnexpectedEOF when b ends before the payload begins, and
// otherwise a *MalformedError.
func (p *Publish) Parse(b []byte, level byte) (int, error) {
	*p = Publish{}
	cur, err := openPart(b, PUBLISH, level)
	if err != nil {
		return 0, err
	}
	p.Dup, p.QoS, p.Retain = b[0]&8 != 0, b[0]>>1&3, b[0]&1 != 0
	switch {
	case p.QoS == 3:
		return 0, cur.refuse(faultPublishQoS)
	case p.Dup && p.QoS == 0 && level > 3: // MQTT 3.1 gives DUP no meaning with QoS 0
		return 0, cur.refuse(faultPublishDup)
	}
	var ok bool
	if p.Topic, ok = cur.field(); !ok {
		return 0, cur.short(faultPublishTopic)
	}
	if p.QoS > 0 {
		if p.PacketID, err = cur.packetID(); err != nil {
			return 0, err
		}
	}
	if p.Properties, err = cur.checkedProperties(); err != nil {
		return 0, err
	}
	if f := p.topicFault(); f != nil {
		return 0, cur.refuse(f)
	}
	p.Payload = cur.b[cur.off:]
	return cur.off, nil
}

func (p *Publish) topicFault() *fault {
	switch {
	case bytes.ContainsAny(p.Topic, wildcards):
		return faultPublishWildcard
	case len(p.Topic) == 0:
		if _, ok := p.Properties.TopicAlias(); !ok {
			return faultPublishNoTopic
		}
	}
	return textFault(p.Topic, faultPublishTopic)
}

// Append appends the packet to dst and returns the result.
func (p *Publish) Append(dst []byte, level byte) []byte {
	return append(p.AppendHeader(dst, level, len(p.Payload)), p.Payload...)
}

// AppendHeader appends everything before the payload. The caller sends the payload, which has
// the given size in bytes. It ignores Payload.
func (p *Publish) AppendHeader(dst []byte, level byte, payload int) []byte {
	header := fieldLen(p.Topic) + p.Properties.size(level)
	if p.QoS > 0 {
		header += 2
	}
	dst = slices.Grow(dst, 1+varintLen(header+payload)+header)
	first := PUBLISH.firstByte() | p.QoS<<1&6
	if p.Dup {
		first |= 8
	}
	if p.Retain {
		first |= 1
	}
	dst = appendVarint(append(dst, first), header+payload)
	dst = appendField(dst, p.Topic)
	if p.QoS > 0 {
		dst = appendUint16(dst, p.PacketID)
	}
	return p.Properties.append(dst, level)
}
