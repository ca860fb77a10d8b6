package packets

import (
	"slices"
	"strings"
)

const (
	nameMQTT   = "MQTT"
	nameMQIsdp = "MQIsdp" // MQTT 3.1
	bridgeBit  = 0x80
)

// Connect flags. MQTT 5.0 section 3.1.2.3.
const (
	flagReserved   = 0x01
	flagCleanStart = 0x02
	flagWill       = 0x04
	flagWillQoS    = 0x18
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUsername   = 0x80
)

// Connect is a CONNECT packet, section 3.1 of each standard. It may be copied
// and its fields replaced; Check reports whether the result can be sent.
//
// Username, Password and ClientID may each be a secret, so a Connect prints as
// a summary without them.
type Connect struct {
	// Level is the protocol level: 3 for MQTT 3.1, 4 for 3.1.1, 5 for 5.0.
	Level byte
	// Bridge is set if the level byte has the bridge bit, 0x80, with which a broker connects
	// to another one.
	Bridge bool
	// CleanStart is the flag called Clean Session below MQTT 5.0.
	CleanStart bool
	// HasWill, HasUsername and HasPassword say whether the fields of that name are in the
	// packet, where they may be empty. If one is false, its field is ignored.
	HasWill     bool
	HasUsername bool
	HasPassword bool
	// KeepAlive is the longest time in seconds that the client may be silent. 0 means no limit.
	KeepAlive uint16
	// Properties of MQTT 5.0, section 3.1.2.11.
	Properties Properties
	// ClientID may be empty. See MissingClientID.
	ClientID string
	Will     Will
	Username string
	// Password is binary data. It is a string so that it can share the one copy of the packet
	// that ClientID and Username share, and costs no allocation of its own.
	Password string
}

// Will is the message that the broker publishes when the connection ends
// without a DISCONNECT. MQTT 5.0 section 3.1.2.5.
type Will struct {
	// Topic is a topic name: not empty, without wildcards.
	Topic string
	// Payload holds up to 65,535 bytes.
	Payload []byte
	// QoS is 0, 1 or 2.
	QoS    byte
	Retain bool
	// Properties of MQTT 5.0, section 3.1.3.2.
	Properties Properties
}

// MissingClientID reports whether the client lacks the identifier that its protocol level
// demands: always in MQTT 3.1, and in 3.1.1 if the session is to be kept. Unlike every other
// fault this one is answered, with return code RefusedIdentifier. Parse therefore accepts the
// packet, and the caller sends the answer. MQTT 3.1 section 3.1, [MQTT-3.1.3-8]
func (c *Connect) MissingClientID() bool {
	return c.ClientID == "" && (c.Level == 3 || c.Level == 4 && !c.CleanStart)
}

// Check reports whether the Connect can be sent: a *ProtocolLevelError for a
// level that is none of the three, or else a *MalformedError for the first
// field that is too long, is not UTF-8 or breaks another rule that Parse would
// have refused. A Connect from Parse passes unless it has been changed.
func (c *Connect) Check() error {
	if c.Level < 3 || c.Level > 5 {
		return &ProtocolLevelError{Name: nameMQTT, Level: c.Level}
	}
	if f := c.fault(); f != nil {
		return f.in(CONNECT, c.Level)
	}
	return nil
}

func (c *Connect) fault() *fault {
	if f := stringFault(c.ClientID, faultClientIDText); f != nil {
		return f
	}
	if c.HasWill {
		if f := c.Will.fault(); f != nil {
			return f
		}
	}
	if c.HasUsername {
		if f := stringFault(c.Username, faultUserNameText); f != nil {
			return f
		}
	}
	switch {
	case c.HasPassword && len(c.Password) > maxField:
		return faultFieldLength
	case c.HasPassword && !c.HasUsername && c.Level < 5:
		return faultPasswordAlone
	case c.remaining() > maxRemaining:
		return faultTooLong
	}
	return c.Properties.fault(CONNECT)
}

func (w *Will) fault() *fault {
	if f := stringFault(w.Topic, faultWillTopicText); f != nil {
		return f
	}
	switch {
	case w.Topic == "":
		return faultTopicEmpty
	case strings.ContainsAny(w.Topic, wildcards):
		return faultTopicWildcard
	case len(w.Payload) > maxField:
		return faultFieldLength
	case w.QoS > 2:
		return faultWillQoS
	}
	return w.Properties.fault(typeWill)
}

// Append appends the packet to dst and returns the result. It allocates only to grow dst, at
// most once. Check reports beforehand whether the packet is valid.
func (c *Connect) Append(dst []byte) []byte {
	remaining := c.remaining()
	dst = slices.Grow(dst, 1+varintLen(remaining)+remaining)
	dst = append(dst, CONNECT.firstByte())
	dst = appendVarint(dst, remaining)
	dst = appendField(dst, c.protocolName())
	dst = append(dst, c.levelByte(), c.flags())
	dst = appendUint16(dst, c.KeepAlive)
	dst = c.Properties.append(dst, c.Level)
	dst = appendField(dst, c.ClientID)
	if c.HasWill {
		dst = c.Will.Properties.append(dst, c.Level)
		dst = appendField(dst, c.Will.Topic)
		dst = appendField(dst, c.Will.Payload)
	}
	if c.HasUsername {
		dst = appendField(dst, c.Username)
	}
	if c.HasPassword {
		dst = appendField(dst, c.Password)
	}
	return dst
}

// remaining returns the remaining length of the packet.
func (c *Connect) remaining() int {
	n := fieldLen(c.protocolName()) + 4 + c.Properties.size(c.Level) + fieldLen(c.ClientID)
	if c.HasWill {
		n += c.Will.Properties.size(c.Level) + fieldLen(c.Will.Topic) + fieldLen(c.Will.Payload)
	}
	if c.HasUsername {
		n += fieldLen(c.Username)
	}
	if c.HasPassword {
		n += fieldLen(c.Password)
	}
	return n
}

func (c *Connect) protocolName() string {
	if c.Level == 3 {
		return nameMQIsdp
	}
	return nameMQTT
}

func (c *Connect) levelByte() byte {
	if c.Bridge {
		return c.Level | bridgeBit
	}
	return c.Level
}

func (c *Connect) flags() byte {
	var flags byte
	if c.CleanStart {
		flags |= flagCleanStart
	}
	if c.HasWill {
		flags |= flagWill | c.Will.QoS<<3&flagWillQoS
		if c.Will.Retain {
			flags |= flagWillRetain
		}
	}
	if c.HasUsername {
		flags |= flagUsername
	}
	if c.HasPassword {
		flags |= flagPassword
	}
	return flags
}

// String returns a summary such as "CONNECT level 4, clean start, user name". It names the
// fields that are present, without their content.
func (c Connect) String() string {
	s := strings.Builder{}
	s.WriteString("CONNECT level " + string('0'+rune(c.Level%10)))
	for _, part := range []struct {
		is   bool
		name string
	}{
		{c.Bridge, "bridge"},
		{c.CleanStart, "clean start"},
		{c.ClientID != "", "client identifier"},
		{c.HasWill, "will"},
		{c.HasUsername, "user name"},
		{c.HasPassword, "password"},
	} {
		if part.is {
			s.WriteString(", " + part.name)
		}
	}
	return s.String()
}

// GoString keeps %#v from printing what String leaves out.
func (c Connect) GoString() string { return c.String() }
