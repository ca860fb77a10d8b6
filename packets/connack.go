package packets

import "slices"

// Connack is a CONNACK packet, section 3.2 of each standard. The zero value is
// success without a session.
type Connack struct {
	// SessionPresent must be false unless Code is Success. Parse accepts it anyway, so that a
	// broker's mistake does not hide its reason for a refusal.
	SessionPresent bool
	// Code is a return code below MQTT 5.0 and a reason code there. Every code but Success is a
	// refusal.
	Code ReasonCode
	// Properties of MQTT 5.0, section 3.2.2.3.
	Properties Properties
}

// Parse reads a CONNACK of the given protocol level, which must be all of raw. The properties
// then point into raw. The error is a *MalformedError.
func (a *Connack) Parse(raw []byte, level byte) error {
	*a = Connack{}
	cur, err := open(raw, CONNACK, level)
	if err != nil {
		return err
	}
	b, ok := cur.take(2)
	switch {
	case !ok:
		return cur.short(faultShort)
	case b[0] > 1 && level > 3: // MQTT 3.1 does not use the byte
		return cur.refuse(faultConnackFlags)
	}
	a.SessionPresent = b[0] == 1
	a.Code = ReasonCode(b[1])
	if a.Properties, err = cur.checkedProperties(); err != nil {
		return err
	}
	return cur.done()
}

// Append appends the packet to dst and returns the result.
func (a *Connack) Append(dst []byte, level byte) []byte {
	remaining := 2 + a.Properties.size(level)
	dst = slices.Grow(dst, 1+varintLen(remaining)+remaining)
	dst = appendVarint(append(dst, CONNACK.firstByte()), remaining)
	var flags byte
	if a.SessionPresent {
		flags = 1
	}
	dst = append(dst, flags, byte(a.Code))
	return a.Properties.append(dst, level)
}
