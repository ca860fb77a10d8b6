package inspect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	mochi "github.com/mochi-mqtt/server/v2/packets"

	paho "github.com/eclipse/paho.golang/packets"
)

// A decoder reads one whole packet as a broker or a device would that does not share code with
// this program. size is the size of its fixed header.
type decoder func(level byte, raw []byte, size int) (message, error)

// decoders are those that know a protocol level.
func decoders(level byte) map[string]decoder {
	if level < 5 {
		return map[string]decoder{"mochi": readMochi}
	}
	return map[string]decoder{"mochi": readMochi, "paho": readPaho}
}

// message is what a decoder makes of a packet.
type message struct {
	kind     byte // packet type
	id       uint16
	qos      byte
	topic    string // after topic aliases
	alias    uint16
	response string
	filters  []subscription
	codes    int    // how many
	rest     string // everything else
}

type subscription struct{ filter, options string }

var errIncomplete = errors.New("incomplete")

// readAll reads the packets of a stream until one is incomplete, is the last one, or is not one
// to the decoder. Boundaries are found by mochi's code.
func readAll(level byte, stream []byte, decode decoder) (all []message, err error) {
	aliases := map[uint16]string{}
	for len(stream) > 0 {
		length, n, err := mochi.DecodeLength(bytes.NewReader(stream[1:]))
		if err != nil || 1+n+length > len(stream) {
			return all, errIncomplete
		}
		m, err := decode(level, stream[:1+n+length], 1+n)
		if err != nil {
			return all, err
		}
		if m.alias != 0 {
			if m.topic == "" {
				m.topic = aliases[m.alias]
			}
			aliases[m.alias] = m.topic
		}
		all = append(all, m)
		if m.kind == mochi.Disconnect {
			return all, nil
		}
		stream = stream[1+n+length:]
	}
	return all, nil
}

func readMochi(level byte, raw []byte, size int) (m message, err error) {
	defer func() {
		if p := recover(); p != nil { // it reads past the end of some that are cut off
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	p := mochi.Packet{ProtocolVersion: level}
	if err := p.FixedHeader.Decode(raw[0]); err != nil {
		return m, err
	}
	body := raw[size:]
	switch p.FixedHeader.Type {
	case mochi.Publish:
		err = p.PublishDecode(body)
	case mochi.Subscribe:
		err = p.SubscribeDecode(body)
	case mochi.Unsubscribe:
		err = p.UnsubscribeDecode(body)
	case mochi.Pubrel:
		err = p.PubrelDecode(body)
	case mochi.Puback, mochi.Pubrec, mochi.Pubcomp:
		err = p.PubackDecode(body)
	case mochi.Suback:
		err = p.SubackDecode(body)
	case mochi.Unsuback:
		err = p.UnsubackDecode(body)
	default:
		return message{kind: p.FixedHeader.Type, rest: string(body)}, nil
	}
	m = message{kind: p.FixedHeader.Type, id: p.PacketID, qos: p.FixedHeader.Qos, topic: p.TopicName, alias: p.Properties.TopicAlias,
		response: p.Properties.ResponseTopic, codes: len(p.ReasonCodes)}
	for _, f := range p.Filters {
		m.filters = append(m.filters, subscription{f.Filter, fmt.Sprint(f.Qos, f.NoLocal, f.RetainAsPublished, f.RetainHandling)})
	}
	p.Properties.ResponseTopic = ""
	properties, jsonErr := json.Marshal(p.Properties)
	m.rest = fmt.Sprintf("%v %v %x %s %q", p.FixedHeader.Dup, p.FixedHeader.Retain, p.ReasonCodes, properties, p.Payload)
	return m, errors.Join(err, jsonErr)
}

func readPaho(_ byte, raw []byte, _ int) (message, error) {
	rest := bytes.NewReader(raw)
	p, err := paho.ReadPacket(rest)
	if err != nil {
		return message{}, err
	}
	if rest.Len() > 0 {
		return message{}, errors.New("it finds another end of the packet")
	}
	m := message{kind: p.Type, id: p.PacketID()}
	var properties any
	switch c := p.Content.(type) {
	case *paho.Publish:
		m.qos, m.topic, m.response = c.QoS, c.Topic, c.Properties.ResponseTopic
		if a := c.Properties.TopicAlias; a != nil {
			m.alias = *a
		}
		c.Properties.ResponseTopic = ""
		m.rest, properties = fmt.Sprintf("%v %v %q ", c.Duplicate, c.Retain, c.Payload), c.Properties
	case *paho.Subscribe:
		for _, f := range c.Subscriptions {
			m.filters = append(m.filters, subscription{f.Topic, fmt.Sprint(f.QoS, f.NoLocal, f.RetainAsPublished, f.RetainHandling)})
		}
		properties = c.Properties
	case *paho.Unsubscribe:
		for _, f := range c.Topics {
			m.filters = append(m.filters, subscription{filter: f})
		}
		properties = c.Properties
	case *paho.Suback:
		m.codes, properties = len(c.Reasons), c
	case *paho.Unsuback:
		m.codes, properties = len(c.Reasons), c
	default:
		properties = c
	}
	all, err := json.Marshal(properties)
	m.rest += string(all)
	return m, err
}
