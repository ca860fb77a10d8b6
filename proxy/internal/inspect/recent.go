package inspect

import (
	"bytes"
	"encoding/binary"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// recent is the last message of a direction that was passed on and had no properties. Most
// messages of a device have the topic of the message before, and what was decided about that
// holds again while the rights are the same.
type recent struct {
	// The topic as it came and then, if it is another one, as it was passed on, each with its
	// length in front; empty if there is no such message.
	topics []byte
	name   uint16 // where the second one begins
	same   bool   // there is no second one
	first  byte   // of the packet: QoS and flags
}

// forget is called when the rights have changed.
func (r *recent) forget() { r.topics = r.topics[:0] }

// maxRecent bounds the topics that are remembered, in bytes.
const maxRecent = 256

// remember keeps what became of a message that was passed on without a topic alias.
func (r *recent) remember(first byte, p *packets.Publish, name []byte) {
	if len(p.Properties) > 0 || max(len(p.Topic), len(name)) > maxRecent {
		return
	}
	r.first, r.same = first, bytes.Equal(p.Topic, name)
	all := 2 + len(p.Topic)
	if r.name = uint16(all); !r.same {
		all += 2 + len(name)
	}
	if cap(r.topics) < all {
		r.topics = make([]byte, 0, all)
	}
	r.topics = append(binary.BigEndian.AppendUint16(r.topics[:0], uint16(len(p.Topic))), p.Topic...)
	if !r.same {
		r.topics = append(binary.BigEndian.AppendUint16(r.topics, uint16(len(name))), name...)
	}
}

// again returns what is done with a PUBLISH, as judge.decide does, if it differs from the
// remembered one in packet identifier and payload alone. most is the size of the largest packet
// that may be made of it. It reports false for any other packet, malformed ones included.
func (r *recent) again(scratch, head []byte, size int, level byte, most int) (verdict, bool) {
	if head[0] != r.first || len(r.topics) == 0 {
		return verdict{}, false
	}
	topic, name := r.topics[:r.name], r.topics[r.name:]
	start := fixedHeader(head)
	rest, ok := bytes.CutPrefix(head[start:], topic)
	if !ok {
		return verdict{}, false
	}
	end := 0
	if r.first&0x06 != 0 {
		if end = 2; len(rest) < 2 || rest[0]|rest[1] == 0 {
			return verdict{}, false
		}
	}
	if level >= 5 {
		if end++; len(rest) < end || rest[end-1] != 0 {
			return verdict{}, false
		}
	}
	length := size - start - len(topic) + len(name)
	switch {
	case len(rest) != end || !r.same && length+maxFixedHeader > most:
		return verdict{}, false
	case r.same:
		return verdict{}, true
	}
	out := binary.AppendUvarint(append(scratch, r.first), uint64(length)) // as MQTT encodes a length
	return verdict{instead: append(append(out, name...), rest...)}, true
}
