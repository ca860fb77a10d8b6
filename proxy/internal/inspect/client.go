package inspect

import (
	"encoding/binary"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// fromClient judges what the client sends.
type fromClient struct {
	level    byte
	acl      *authz.BoundACL
	denied   func(Denied)
	aliases  aliases
	requests *requests
	received *identifiers // QoS 2, before MQTT 5.0: dropped and answered with PUBREC
	scratch  []byte       // of the last verdict
}

func (c *fromClient) need(b []byte, size int) int {
	switch packets.Type(b[0] >> 4) {
	case packets.PUBLISH:
		return publishHead(b, size, c.level)
	case packets.SUBSCRIBE:
		return size
	case packets.PUBREL:
		if c.received != nil {
			return min(size, 4)
		}
	}
	return fixedHeader(b)
}

func (c *fromClient) decide(head []byte, size int) (verdict, error) {
	c.scratch = reuse(c.scratch)
	switch packets.Type(head[0] >> 4) {
	case packets.PUBLISH:
		return c.publish(head, size)
	case packets.SUBSCRIBE:
		return c.subscribe(head)
	case packets.PUBREL:
		if c.received != nil {
			return c.release(head)
		}
	}
	return verdict{}, nil
}

func (c *fromClient) publish(head []byte, size int) (verdict, error) {
	var p packets.Publish
	n, err := p.Parse(head, c.level)
	if err != nil {
		return verdict{}, err
	}
	topic := p.Topic
	alias, aliased := p.Properties.TopicAlias()
	if aliased {
		if topic, err = c.aliases.resolve(alias, topic); err != nil {
			return verdict{}, err
		}
	}
	if !c.acl.Publish(topic, p.QoS, p.Retain) {
		c.tell(Denied{packets.PUBLISH, topic, p.QoS, p.Retain})
		return c.refuse(&p), nil
	}
	if p.QoS == 2 && c.received != nil {
		c.received.remove(p.PacketID)
	}
	if !aliased {
		return verdict{}, nil
	}
	known := c.aliases.passed(alias)
	if known || len(p.Topic) > 0 {
		return verdict{}, nil
	}
	p.Topic = topic
	c.scratch = p.AppendHeader(c.scratch, c.level, size-n)
	return verdict{instead: c.scratch}, nil
}

func (c *fromClient) tell(d Denied) {
	if c.denied != nil {
		c.denied(d)
	}
}

// refuse drops p.
func (c *fromClient) refuse(p *packets.Publish) verdict {
	if p.QoS == 0 {
		return verdict{drop: true}
	}
	ack := packets.Ack{Type: packets.PUBACK, PacketID: p.PacketID}
	if p.QoS == 2 {
		ack.Type = packets.PUBREC
	}
	switch {
	case c.level >= 5:
		ack.Code = packets.NotAuthorized
	case p.QoS == 2:
		if c.received == nil {
			c.received = &identifiers{}
		}
		c.received.add(p.PacketID)
	}
	c.scratch = ack.Append(c.scratch, c.level)
	return verdict{drop: true, answer: c.scratch}
}

// release ends the exchange about a dropped message of QoS 2.
func (c *fromClient) release(raw []byte) (verdict, error) {
	var ack packets.Ack
	if err := ack.Parse(raw, c.level); err != nil {
		return verdict{}, err
	}
	if !c.received.remove(ack.PacketID) {
		return verdict{}, nil
	}
	ack.Type = packets.PUBCOMP
	c.scratch = ack.Append(c.scratch, c.level)
	return verdict{drop: true, answer: c.scratch}, nil
}

func (c *fromClient) subscribe(raw []byte) (verdict, error) {
	var s packets.Subscribe
	if err := s.Parse(raw, c.level); err != nil {
		return verdict{}, err
	}
	if c.requests.waiting(s.PacketID) {
		return verdict{}, c.inUse()
	}
	var refused []bool
	var allowed []byte // Subscribe.Add would copy all of it for every filter
	for filter, options := range s.All() {
		ok := c.acl.Subscribe(filter, options&3)
		if !ok {
			c.tell(Denied{Type: packets.SUBSCRIBE, Topic: []byte(filter), QoS: options & 3})
		}
		refused = append(refused, !ok)
		if ok {
			allowed = binary.BigEndian.AppendUint16(allowed, uint16(len(filter)))
			allowed = append(append(allowed, filter...), options)
		}
	}
	switch len(allowed) {
	case len(s.Payload):
		return verdict{}, nil
	case 0:
		ack := packets.Suback{Type: packets.SUBACK, PacketID: s.PacketID}
		ack.Codes, _ = merge(nil, refused, refusedFilter(c.level))
		c.scratch = ack.Append(c.scratch, c.level)
		return verdict{drop: true, answer: c.scratch}, nil
	}
	s.Payload = allowed
	c.scratch = s.Append(c.scratch, c.level)
	return verdict{instead: c.scratch}, c.requests.add(s.PacketID, refused)
}

func (c *fromClient) inUse() error {
	rule := "MQTT-2.2.1-3"
	if c.level < 5 {
		rule = "MQTT-2.3.1-2"
	}
	return &packets.MalformedError{Type: packets.SUBSCRIBE, Level: c.level, Rule: rule,
		Code: packets.ProtocolError, Reason: "packet identifier is in use"}
}

// publishHead returns how much of a PUBLISH precedes its payload, see judge.
func publishHead(b []byte, size int, level byte) int {
	at := fixedHeader(b)
	if at+2 > len(b) {
		return min(at+2, size)
	}
	at += 2 + int(binary.BigEndian.Uint16(b[at:]))
	if b[0]&0x06 != 0 {
		at += 2
	}
	if level < 5 {
		return min(at, size)
	}
	length := 0
	for i := 0; i < 4; i++ {
		if at >= len(b) {
			return min(at+1, size)
		}
		length |= int(b[at]&0x7F) << (7 * i)
		if at++; b[at-1] < 0x80 {
			break
		}
	}
	return min(at+length, size)
}

// identifiers is a set of packet identifiers.
type identifiers [1 << 16 / 64]uint64

func (s *identifiers) add(id uint16) { s[id/64] |= 1 << (id % 64) }

// remove reports whether id was in s.
func (s *identifiers) remove(id uint16) bool {
	bit := uint64(1) << (id % 64)
	had := s[id/64]&bit != 0
	s[id/64] &^= bit
	return had
}
