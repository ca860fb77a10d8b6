package packets

// Type is the control packet type, the upper half of a packet's first byte:
// Type(b[0] >> 4). MQTT 5.0 section 2.1.2.
type Type byte

// The control packet types, spelled as in the standard. AUTH exists only in MQTT 5.0.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15
)

// typeWill stands for the will in the property table. No packet has type 0.
const typeWill Type = 0

// String returns the name of the type, or "packet" for the reserved type 0 and
// numbers that do not fit in four bits.
func (t Type) String() string {
	names := [...]string{"packet", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
		"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}
	if int(t) >= len(names) {
		return names[0]
	}
	return names[t]
}

// allows reports whether a packet of this type and protocol level may begin with first, whose
// upper half is the type. MQTT 3.1.1 fixes the lower half for every type but PUBLISH. MQTT 3.1
// section 2.1 allows DUP in packets that are acknowledged, and leaves the bits unused that have
// no meaning for the type: RETAIN outside of PUBLISH, and all four bits of types that are not
// answered or that are answers themselves.
func (t Type) allows(first, level byte) bool {
	switch {
	case t == PUBLISH, first == t.firstByte():
		return true
	case level != 3:
		return false
	}
	qos := t.firstByte() & flagQoS
	return qos == 0 || first&flagQoS == qos
}

// flagQoS is the position of the QoS in the first byte.
const flagQoS = 0x06

// firstByte returns the only first byte that a packet of this type may have. It is not for
// PUBLISH. MQTT 5.0 table 2-2.
func (t Type) firstByte() byte {
	switch t {
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		return byte(t)<<4 | 2
	default:
		return byte(t) << 4
	}
}
