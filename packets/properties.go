package packets

import (
	"encoding/binary"
	"iter"
	"slices"
)

// Properties are the encoded properties of one MQTT 5.0 packet or will, without the property
// length. Nil means none.
//
// The Parse methods have checked them against MQTT 5.0 table 2-4. If the bytes were not
// checked, the methods stop at the first property that they cannot read, and ignore the rest.
// No method changes the bytes; With and the Without methods return new ones.
type Properties []byte

// All yields the properties in order: the identifier, and the encoded value, including its
// length if its type has one. Values point into p.
func (p Properties) All() iter.Seq2[PropertyID, []byte] {
	return func(yield func(PropertyID, []byte) bool) {
		for rest := p; len(rest) > 0; {
			id, value, size := next(rest)
			if size == 0 || !yield(id, value) {
				return
			}
			rest = rest[size:]
		}
	}
}

// UserProperty returns the value of the first user property with that name, and whether there
// is one. Names may repeat, and are case-sensitive.
func (p Properties) UserProperty(name string) (value string, ok bool) {
	for id, v := range p.All() {
		if id != UserProperty {
			continue
		}
		if n, text := pair(v); string(n) == name {
			return string(text), true
		}
	}
	return "", false
}

// AuthenticationMethod returns the name of the extended authentication that a
// CONNECT asks for or a CONNACK confirms.
func (p Properties) AuthenticationMethod() (string, bool) { return p.text(AuthenticationMethod) }

// AuthenticationData returns the data of an extended authentication. It points
// into p.
func (p Properties) AuthenticationData() ([]byte, bool) { return p.field(AuthenticationData) }

// AssignedClientIdentifier returns the client identifier that a broker has assigned in a
// CONNACK.
func (p Properties) AssignedClientIdentifier() (string, bool) {
	return p.text(AssignedClientIdentifier)
}

// ReasonString returns the human-readable text of a CONNACK, DISCONNECT or acknowledgement.
func (p Properties) ReasonString() (string, bool) { return p.text(ReasonString) }

// ServerReference returns the other servers that a CONNACK or DISCONNECT refers the client to.
// MQTT 5.0 section 4.11.
func (p Properties) ServerReference() (string, bool) { return p.text(serverReference) }

// ResponseTopic returns the topic name for answers to a PUBLISH or will.
func (p Properties) ResponseTopic() (string, bool) { return p.text(ResponseTopic) }

// SessionExpiryInterval returns how many seconds the broker keeps the session after the
// connection has ended; 0xFFFFFFFF means forever. If it is absent, it is 0 in a CONNECT, and in
// a CONNACK the value that the client asked for.
func (p Properties) SessionExpiryInterval() (uint32, bool) {
	n, ok := p.number(sessionExpiryInterval)
	return uint32(n), ok
}

// ServerKeepAlive returns the keep alive in seconds that a CONNACK sets in place
// of the client's own.
func (p Properties) ServerKeepAlive() (uint16, bool) {
	n, ok := p.number(serverKeepAlive)
	return uint16(n), ok
}

// ReceiveMaximum returns how many messages of QoS 1 and 2 the sender of a CONNECT or CONNACK
// accepts at a time. If it is absent, the value is 65,535.
func (p Properties) ReceiveMaximum() (uint16, bool) {
	n, ok := p.number(receiveMaximum)
	return uint16(n), ok
}

// MaximumPacketSize returns the largest packet in bytes, including the fixed header, that the
// sender of a CONNECT or CONNACK accepts. If it is absent, there is no limit. A reason string
// must be left out of an answer that it would make larger. [MQTT-3.2.2-19]
func (p Properties) MaximumPacketSize() (uint32, bool) {
	n, ok := p.number(MaximumPacketSize)
	return uint32(n), ok
}

// MaximumQoS returns the highest QoS that the sender of a CONNACK accepts: 0 or 1. If it is
// absent, that is 2.
func (p Properties) MaximumQoS() (byte, bool) {
	n, ok := p.number(MaximumQoS)
	return byte(n), ok
}

// RetainAvailable returns whether the sender of a CONNACK accepts retained messages. If it is
// absent, the sender does.
func (p Properties) RetainAvailable() (available, ok bool) {
	n, ok := p.number(RetainAvailable)
	return n != 0, ok
}

// TopicAliasMaximum returns the highest topic alias that the sender of a CONNECT or CONNACK
// accepts. If it is absent, the value is 0 and no alias is accepted.
func (p Properties) TopicAliasMaximum() (uint16, bool) {
	n, ok := p.number(TopicAliasMaximum)
	return uint16(n), ok
}

// TopicAlias returns the topic alias of a PUBLISH, never 0.
func (p Properties) TopicAlias() (uint16, bool) {
	n, ok := p.number(TopicAlias)
	return uint16(n), ok
}

// With returns p with value as the property id, appended at the end. It replaces all properties
// id that p has. If the property does not have the type text or binary data, With returns p
// unchanged. A value of more than 65,535 bytes is truncated.
func (p Properties) With(id PropertyID, value string) Properties {
	rule := id.rule()
	if rule == nil || rule.encoding != encText && rule.encoding != encBinary {
		return p
	}
	p = p.Without(id)
	out := slices.Grow(slices.Clip(p), 1+fieldLen(value))
	return appendField(append(out, byte(id)), value)
}

// WithMaximumPacketSize returns p with that Maximum Packet Size, in bytes, in place of any
// that p has. The size must not be 0 [MQTT-3.2.2-15].
func (p Properties) WithMaximumPacketSize(bytes uint32) Properties {
	p = p.Without(MaximumPacketSize)
	return binary.BigEndian.AppendUint32(append(slices.Clip(p), byte(MaximumPacketSize)), bytes)
}

// WithByte returns p with a property whose value is one byte, such as [MaximumQoS] or
// [RetainAvailable], instead of any that p has. For every other property it returns p itself.
func (p Properties) WithByte(id PropertyID, value byte) Properties {
	if rule := id.rule(); rule == nil || rule.encoding != encByte {
		return p
	}
	return append(slices.Clip(p.Without(id)), byte(id), value)
}

// Without returns p without the properties that have the given identifiers. If there are none,
// it returns p itself.
func (p Properties) Without(ids ...PropertyID) Properties {
	return p.filter(func(id PropertyID, _ []byte) bool { return slices.Contains(ids, id) })
}

// WithoutUserProperty returns p without the user properties that have that name. If there are
// none, it returns p itself.
func (p Properties) WithoutUserProperty(name string) Properties {
	return p.filter(func(id PropertyID, value []byte) bool {
		if id != UserProperty {
			return false
		}
		n, _ := pair(value)
		return string(n) == name
	})
}

func (p Properties) filter(remove func(PropertyID, []byte) bool) Properties {
	for id, value := range p.All() {
		if !remove(id, value) {
			continue
		}
		out := make(Properties, 0, len(p))
		for id, value := range p.All() {
			if !remove(id, value) {
				out = append(append(out, byte(id)), value...)
			}
		}
		return out
	}
	return p
}

// find returns the encoded value of the first property id.
func (p Properties) find(id PropertyID) ([]byte, bool) {
	for rest := p; len(rest) > 0; {
		found, value, size := next(rest)
		if size == 0 {
			break
		}
		if found == id {
			return value, true
		}
		rest = rest[size:]
	}
	return nil, false
}

func (p Properties) field(id PropertyID) ([]byte, bool) {
	value, ok := p.find(id)
	if !ok {
		return nil, false
	}
	return value[2:], true
}

func (p Properties) text(id PropertyID) (string, bool) {
	value, ok := p.field(id)
	return string(value), ok
}

func (p Properties) number(id PropertyID) (int, bool) {
	value, ok := p.find(id)
	if !ok {
		return 0, false
	}
	return number(id.rule().encoding, value), true
}

// next reads the first property of b, which is not empty. The size is 0 if the property is
// unknown or truncated.
func next(b []byte) (id PropertyID, value []byte, size int) {
	id = PropertyID(b[0])
	rule := id.rule()
	if rule == nil {
		return id, nil, 0
	}
	n := valueLen(rule.encoding, b[1:])
	if n < 0 || 1+n > len(b) {
		return id, nil, 0
	}
	return id, b[1 : 1+n : 1+n], 1 + n
}

// valueLen returns the encoded length of the value at the start of b, which may
// be more than b has, or -1 if b is too short to determine it.
func valueLen(e encoding, b []byte) int {
	switch e {
	case encByte:
		return 1
	case encUint16:
		return 2
	case encUint32:
		return 4
	case encVarint:
		if _, n := shortVarint(b); n > 0 {
			return n
		}
		return -1
	}
	n := fieldEnd(b, 0)
	if e == encPair && n >= 0 {
		n = fieldEnd(b, n)
	}
	return n
}

// fieldEnd returns where the field that begins at off ends.
func fieldEnd(b []byte, off int) int {
	if off+2 > len(b) {
		return -1
	}
	return off + 2 + int(b[off])<<8 + int(b[off+1])
}

// pair splits the value of a user property.
func pair(value []byte) (name, text []byte) {
	end := fieldEnd(value, 0)
	return value[2:end], value[end+2:]
}

// number returns the value of an integer property.
func number(e encoding, value []byte) int {
	if e == encVarint {
		n, _ := varint(value)
		return n
	}
	n := 0
	for _, c := range value {
		n = n<<8 | int(c)
	}
	return n
}

// append appends the property length and the properties. Levels below 5 have neither.
func (p Properties) append(dst []byte, level byte) []byte {
	if level < 5 {
		return dst
	}
	return append(appendVarint(dst, len(p)), p...)
}

// size returns the number of bytes that append appends.
func (p Properties) size(level byte) int {
	if level < 5 {
		return 0
	}
	return varintLen(len(p)) + len(p)
}
