package inspect

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// fromClient is the judge of what the client sends.
type fromClient struct {
	filter Filter
	*shared
	rights    *Rights      // for the packet at hand
	received  *identifiers // before MQTT 5.0: dropped QoS 2 messages whose PUBREL has not come
	aliases   aliases
	recent    recent
	maxPacket int32 // the largest that the broker takes, in bytes
}

// limits returns the limits for the packet at hand.
func (c *fromClient) limits() limits { return limits{&c.subscriptions, c.rights.Limits} }

// load takes over the rights that are in force.
func (c *fromClient) load() {
	if now := c.control.rights.Load(); c.rights != now {
		c.rights = now
		c.recent.forget()
		c.aliases.renamed()
	}
}

func (c *fromClient) need(b []byte, size int) int {
	c.load()
	switch packets.Type(b[0] >> 4) {
	case packets.PUBLISH:
		if c.rights.none() && c.received == nil && c.limits().allow(b[0], size) {
			return fixedHeader(b)
		}
		return publishHead(b, size, c.filter.level)
	case packets.SUBSCRIBE, packets.UNSUBSCRIBE:
		return size
	case packets.AUTH:
		if c.renewal != nil {
			return size
		}
	case packets.PUBREL:
		if c.received != nil {
			return min(size, 4)
		}
	}
	return fixedHeader(b)
}

func (c *fromClient) decide(head []byte, size int) (verdict, error) {
	work := c.filter.work
	work[scratch] = work[scratch][:0]
	t := packets.Type(head[0] >> 4)
	switch {
	case t == packets.PUBLISH:
		if c.rights.none() && c.received == nil && c.limits().allow(head[0], size) {
			return verdict{}, nil
		}
		if v, ok := c.again(head, size); ok {
			return v, nil
		}
		return c.publish(head, size)
	case c.limits().tooLarge(size) && (t != packets.SUBSCRIBE || c.filter.level >= 5):
		return verdict{}, c.tooLarge(t, size)
	}
	switch t {
	case packets.SUBSCRIBE:
		return c.subscribe(head)
	case packets.UNSUBSCRIBE:
		return c.unsubscribe(head)
	case packets.AUTH:
		if c.renewal != nil {
			return c.auth(head)
		}
	case packets.PUBREL:
		if c.received != nil {
			return c.release(head)
		}
	}
	return verdict{}, nil
}

// again decides about a message that is like the last one.
func (c *fromClient) again(head []byte, size int) (verdict, bool) {
	if c.received != nil || !c.limits().allow(head[0], size) {
		return verdict{}, false
	}
	v, ok := c.recent.again(c.filter.work[scratch], head, size, c.filter.level, int(c.maxPacket))
	if v.instead != nil {
		c.filter.work[scratch] = v.instead
	}
	return v, ok
}

func (c *fromClient) publish(head []byte, size int) (verdict, error) {
	var p packets.Publish
	n, err := p.Parse(head, c.filter.level)
	if err != nil {
		return verdict{}, err
	}
	if broken := c.limits().broken(&p, size); broken != nil {
		c.tell(Denied{Type: packets.PUBLISH, Topic: p.Topic, QoS: p.QoS, Retain: p.Retain, Reason: broken.Error()})
		if c.filter.level >= 5 {
			return verdict{}, broken
		}
		return c.refuse(&p, broken.code), nil
	}
	topic := p.Topic
	alias, aliased := p.Properties.TopicAlias()
	if aliased {
		if topic, err = c.aliases.resolve(alias, topic); err != nil {
			return verdict{}, err
		}
	}
	out, denied := p, ""
	if out.Topic, denied = c.rights.publish(c.filter.work[topicName], topic, p.QoS, p.Retain); denied == "" {
		out.Properties, denied = c.rights.withResponse(p.Properties)
	}
	if denied != "" {
		c.tell(Denied{Type: packets.PUBLISH, Topic: topic, QoS: p.QoS, Retain: p.Retain, Reason: denied})
		return c.refuse(&p, packets.NotAuthorized), nil
	}
	if c.rights.Topics != nil {
		c.filter.work[topicName] = out.Topic
	}
	v := c.pass(&p, &out, alias, size-n)
	if !v.drop && !aliased {
		c.recent.remember(head[0], &p, out.Topic)
	}
	return v, nil
}

// pass passes p on as out, which has the broker's topics. payload is the length of the
// payload in bytes, and alias is 0 if there is none.
func (c *fromClient) pass(p, out *packets.Publish, alias uint16, payload int) verdict {
	if alias != 0 && c.aliases.known(alias) && len(p.Topic) == 0 {
		out.Topic = nil
	}
	same := bytes.Equal(out.Topic, p.Topic) && bytes.Equal(out.Properties, p.Properties)
	if !same {
		c.filter.work[scratch] = out.AppendHeader(c.filter.work[scratch], c.filter.level, payload)
		if len(c.filter.work[scratch])+payload > int(c.maxPacket) {
			c.filter.work[scratch] = c.filter.work[scratch][:0]
			return c.refuse(p, packets.QuotaExceeded)
		}
	}
	if alias != 0 {
		c.aliases.passed(alias)
	}
	if p.QoS == 2 && c.received != nil {
		c.received.remove(p.PacketID)
	}
	if same {
		return verdict{}
	}
	return verdict{instead: c.filter.work[scratch]}
}

// tooLarge returns the error that ends the session for a packet over the limit max_packet.
// Before MQTT 5.0 only messages and subscriptions can be refused on their own.
func (c *fromClient) tooLarge(t packets.Type, size int) error {
	err := c.limits().sizeError(size)
	if t == packets.SUBSCRIBE {
		c.tell(Denied{Type: t, Reason: err.Error()})
	}
	return err
}

func (c *fromClient) tell(d Denied) {
	if c.denied != nil {
		c.denied(d)
	}
}

// refuse drops p and answers it with code, or in versions before 5.0 as if it were accepted.
func (c *fromClient) refuse(p *packets.Publish, code packets.ReasonCode) verdict {
	if p.QoS == 0 {
		return verdict{drop: true}
	}
	ack := packets.Ack{Type: packets.PUBACK, PacketID: p.PacketID}
	if p.QoS == 2 {
		ack.Type = packets.PUBREC
	}
	switch {
	case c.filter.level >= 5:
		ack.Code = code
	case p.QoS == 2:
		if c.received == nil {
			c.received = &identifiers{}
		}
		c.received.add(p.PacketID)
	}
	c.filter.work[scratch] = ack.Append(c.filter.work[scratch], c.filter.level)
	return verdict{drop: true, answer: c.filter.work[scratch]}
}

// release answers the PUBREL of a dropped message.
func (c *fromClient) release(raw []byte) (verdict, error) {
	var ack packets.Ack
	if err := ack.Parse(raw, c.filter.level); err != nil {
		return verdict{}, err
	}
	if !c.received.remove(ack.PacketID) {
		return verdict{}, nil
	}
	ack.Type = packets.PUBCOMP
	c.filter.work[scratch] = ack.Append(c.filter.work[scratch], c.filter.level)
	return verdict{drop: true, answer: c.filter.work[scratch]}, nil
}

func (c *fromClient) subscribe(raw []byte) (verdict, error) {
	var s packets.Subscribe
	if err := s.Parse(raw, c.filter.level); err != nil {
		return verdict{}, err
	}
	if c.requests.inUse(s.PacketID) {
		return verdict{}, c.inUse()
	}
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	c.load()
	var codes []packets.ReasonCode
	var payload []byte // not Subscribe.Add, which would copy all of it for every filter
	count := c.limits().count(len(raw))
	for filter, options := range s.All() {
		at, asked := len(payload), options&3
		options = options&^3 | min(asked, c.limits().MostQoS())
		out, denied := c.rights.subscribe(append(payload, 0, 0), filter, options&3)
		code := packets.NotAuthorized
		if denied == "" {
			denied, code = count.add(filter), packets.QuotaExceeded
		}
		if denied != "" {
			c.tell(Denied{Type: packets.SUBSCRIBE, Topic: []byte(filter), QoS: asked, Reason: denied})
			codes = append(codes, refusedFilter(c.filter.level, code))
			continue
		}
		binary.BigEndian.PutUint16(out[at:], uint16(len(out)-at-2))
		payload = append(out, options)
		codes = append(codes, passedOn)
	}
	count.ask(s.PacketID)
	asked := s
	v, err := c.passFilters(&s, payload, codes)
	if err == nil {
		c.control.remember(&asked, codes, c.limits().MostQoS())
	}
	return v, err
}

// unsubscribe maps the filters of an UNSUBSCRIBE. For a filter that the client cannot have
// subscribed to, the answer is that there was no such subscription.
func (c *fromClient) unsubscribe(raw []byte) (verdict, error) {
	var s packets.Subscribe
	if err := s.Parse(raw, c.filter.level); err != nil {
		return verdict{}, err
	}
	if c.requests.inUse(s.PacketID) {
		return verdict{}, c.inUse()
	}
	var codes []packets.ReasonCode
	var payload []byte
	for filter := range s.All() {
		at := len(payload)
		out, denied := c.rights.filter(append(payload, 0, 0), filter)
		if denied != "" {
			codes = append(codes, noSubscription)
			continue
		}
		binary.BigEndian.PutUint16(out[at:], uint16(len(out)-at-2))
		payload = out
		codes = append(codes, passedOn)
	}
	asked := s
	v, err := c.passFilters(&s, payload, codes)
	if err == nil {
		c.control.forget(&asked, codes)
		c.subscriptions.remove(&asked, codes)
	}
	return v, err
}

// passFilters passes on the remaining filters of a request, or answers it if none remains.
// codes has an element for each filter that the client sent; it is passedOn afterwards for
// those that are passed on.
func (c *fromClient) passFilters(s *packets.Subscribe, payload []byte, codes []packets.ReasonCode) (verdict, error) {
	answer := packets.SUBACK
	if s.Type == packets.UNSUBSCRIBE {
		answer = packets.UNSUBACK
	}
	if bytes.Equal(payload, s.Payload) {
		return verdict{}, nil
	}
	if len(payload) > 0 {
		s.Payload = payload
		c.filter.work[scratch] = s.Append(c.filter.work[scratch], c.filter.level)
		if len(c.filter.work[scratch]) <= int(c.maxPacket) {
			if !slices.ContainsFunc(codes, func(code packets.ReasonCode) bool { return code != passedOn }) || answer == packets.UNSUBACK && c.filter.level < 5 {
				return verdict{instead: c.filter.work[scratch]}, nil
			}
			return verdict{instead: c.filter.work[scratch]}, c.requests.add(s.PacketID, request{answer, codes})
		}
		c.filter.work[scratch] = c.filter.work[scratch][:0]
		for i := range codes {
			codes[i] = refusedFilter(c.filter.level, packets.QuotaExceeded)
		}
		if answer == packets.SUBACK {
			c.subscriptions.answered(s.PacketID, codes)
		}
	}
	ack := packets.Suback{Type: answer, PacketID: s.PacketID, Codes: codes}
	c.filter.work[scratch] = ack.Append(c.filter.work[scratch], c.filter.level)
	return verdict{drop: true, answer: c.filter.work[scratch]}, nil
}

func (c *fromClient) inUse() error {
	rule := "MQTT-2.2.1-3"
	if c.filter.level < 5 {
		rule = "MQTT-2.3.1-2"
	}
	return &packets.MalformedError{Type: packets.SUBSCRIBE, Level: c.filter.level, Rule: rule,
		Code: packets.ProtocolError, Reason: "packet identifier is in use"}
}

// publishHead returns how many bytes of a PUBLISH come before its payload, as judge.need does.
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
