package packets

// Disconnect is a DISCONNECT packet, section 3.14 of each standard. The zero value is a normal
// disconnection, after which a broker discards the will. Below MQTT 5.0 there is no other kind,
// and only the client may send it.
type Disconnect struct {
	Code ReasonCode
	// Properties of MQTT 5.0, section 3.14.2.2.
	Properties Properties
}

// Parse reads a DISCONNECT of the given protocol level which must be all of raw. The properties
// then point into raw. The error is a *MalformedError.
func (d *Disconnect) Parse(raw []byte, level byte) error {
	*d = Disconnect{}
	cur, err := open(raw, DISCONNECT, level)
	if err != nil {
		return err
	}
	d.Code, d.Properties, err = cur.outcome()
	return err
}

// Append appends the packet in its shortest form to dst and returns the result.
func (d *Disconnect) Append(dst []byte, level byte) []byte {
	dst = appendVarint(append(dst, DISCONNECT.firstByte()), outcomeLen(level, d.Code, d.Properties))
	return appendOutcome(dst, level, d.Code, d.Properties)
}

// outcome reads a reason code and properties up to the end of the packet. Both may be omitted;
// without a code the outcome is success. MQTT 5.0 sections 3.4.2 and 3.14.2.
func (c *cursor) outcome() (code ReasonCode, p Properties, err error) {
	if c.level < 5 {
		return Success, nil, c.done()
	}
	if b, ok := c.byte(); ok {
		code = ReasonCode(b)
	}
	if c.left() {
		if p, err = c.checkedProperties(); err != nil {
			return 0, nil, err
		}
	}
	return code, p, c.done()
}

func outcomeLen(level byte, code ReasonCode, p Properties) int {
	switch {
	case level < 5 || code == Success && len(p) == 0:
		return 0
	case len(p) == 0:
		return 1
	}
	return 1 + p.size(level)
}

func appendOutcome(dst []byte, level byte, code ReasonCode, p Properties) []byte {
	if outcomeLen(level, code, p) == 0 {
		return dst
	}
	dst = append(dst, byte(code))
	if len(p) == 0 {
		return dst
	}
	return p.append(dst, level)
}
