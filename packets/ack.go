package packets

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP packet, sections 3.4 to 3.7 of each
// standard.
type Ack struct {
	// Type is PUBACK, PUBREC, PUBREL or PUBCOMP.
	Type Type
	// PacketID is the packet identifier of the PUBLISH. It is never 0.
	PacketID uint16
	// Code is a reason code of MQTT 5.0. Lower levels have none, so there it is always Success.
	Code ReasonCode
	// Properties of MQTT 5.0, section 3.4.2.2.
	Properties Properties
}

// Parse reads one of the four packets, of the given protocol level, which must be all of raw,
// and sets Type. The properties then point into raw. The error is a *MalformedError.
func (a *Ack) Parse(raw []byte, level byte) error {
	*a = Ack{Type: PUBACK}
	if len(raw) > 0 {
		if t := Type(raw[0] >> 4); t > PUBACK && t <= PUBCOMP {
			a.Type = t
		}
	}
	cur, err := open(raw, a.Type, level)
	if err != nil {
		return err
	}
	if a.PacketID, err = cur.packetID(); err != nil {
		return err
	}
	a.Code, a.Properties, err = cur.outcome()
	return err
}

// Append appends the packet in its shortest form to dst and returns the result.
func (a *Ack) Append(dst []byte, level byte) []byte {
	dst = appendVarint(append(dst, a.Type.firstByte()), 2+outcomeLen(level, a.Code, a.Properties))
	dst = appendUint16(dst, a.PacketID)
	return appendOutcome(dst, level, a.Code, a.Properties)
}
