package packetstest

import (
	"encoding/binary"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Packet is one encoded packet, for tests that check what a parser hides.
type Packet []byte

// Type returns the packet's type.
func (p Packet) Type() packets.Type { return packets.Type(p[0] >> 4) }

// Body returns the packet without its fixed header.
func (p Packet) Body() []byte {
	_, n := binary.Uvarint(p[1:]) // MQTT encodes lengths in the same way
	return p[1+n:]
}

// UnexpectedError reports a packet that arrived instead of the expected one.
type UnexpectedError struct{ Packet Packet }

func (e *UnexpectedError) Error() string {
	return fmt.Sprintf("got %v (% x)", e.Packet.Type(), []byte(e.Packet[:min(20, len(e.Packet))]))
}

// PacketID returns the packet identifier of any acknowledgement.
func (p Packet) PacketID() uint16 { return binary.BigEndian.Uint16(p.Body()) }

// Code returns the reason code of a PUBACK, PUBREC, PUBREL or PUBCOMP. Without one it returns
// success.
func (p Packet) Code() packets.ReasonCode {
	if b := p.Body(); len(b) > 2 {
		return packets.ReasonCode(b[2])
	}
	return packets.Success
}
