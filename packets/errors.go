package packets

import (
	"errors"
	"fmt"
)

// ErrNotConnect is returned by ReadConnect when the first byte cannot begin a
// CONNECT: another MQTT packet, or another protocol. The error that wraps it
// describes what it may be instead. [MQTT-3.1.0-1]
var ErrNotConnect = errors.New("first packet is not a CONNECT")

// MalformedError reports a packet that the standard forbids.
type MalformedError struct {
	// Type is the packet's type, or 0 if it is not known.
	Type Type
	// Level is the packet's protocol level, or 0 if the fault was found before the level was
	// known.
	Level byte
	// Rule is the statement that the packet violates, in the standard of the packet's own
	// level: "MQTT-3.1.2-3", or "section 2.2.3" if the statement has no number. MQTT 3.1 has no
	// numbers; the error uses those of 3.1.1.
	Rule string
	// Code is the reason code that MQTT 5.0 section 4.13 asks for: MalformedPacket for bytes
	// that cannot be read, ProtocolError for content that is not allowed. Levels below 5 have
	// no such code.
	Code ReasonCode
	// Reason describes the fault in a few words, without any of the content.
	Reason string
}

// Error returns one line such as
// "malformed CONNECT: will QoS is 3 [MQTT-3.1.2-14]".
func (e *MalformedError) Error() string {
	return fmt.Sprintf("malformed %v: %s [%s]", e.Type, e.Reason, e.Rule)
}

// ProtocolLevelError reports a CONNECT of a protocol other than MQTT 3.1, 3.1.1
// and 5.0. [MQTT-3.1.2-1], [MQTT-3.1.2-2]
type ProtocolLevelError struct {
	// Name is the protocol name, "MQTT" or "MQIsdp". It is empty for any other name, which is
	// not kept.
	Name string
	// Level is the protocol level without the bridge bit. It is 0 when Name is empty: without a
	// known name, the position of the level is not known either.
	Level byte
}

// Error names the protocol that the client asked for.
func (e *ProtocolLevelError) Error() string {
	if e.Name == "" {
		return "unknown protocol name in CONNECT"
	}
	return fmt.Sprintf("unsupported protocol %s level %d", e.Name, e.Level)
}

// TooLargeError reports a packet of more bytes than the caller allows.
type TooLargeError struct {
	// Size is the packet's whole size in bytes, as its fixed header announces.
	Size int
	// Max is the limit in bytes that the caller gave.
	Max int
	// Level is the protocol level of a CONNECT, 0 for any other packet.
	Level byte
}

// Error gives both sizes.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("packet of %d bytes exceeds the limit of %d bytes", e.Size, e.Max)
}
