package packets

import (
	"errors"
	"io"
)

// Framer follows one direction of a connection and reports whether it is between two packets,
// where another packet may be inserted. It reads the fixed headers and skips the rest. The zero
// value is ready for the first packet. A Framer occupies 8 bytes.
//
// A DISCONNECT is the last packet of either side [MQTT-3.14.4-1], after which the Framer stops.
// It does not check packets otherwise. It accepts a remaining length that takes more bytes than
// necessary, which MQTT 5.0 forbids, because every reader finds the same boundary.
type Framer struct {
	left uint32 // bytes of the body still to come, or the part of the length known so far
	head uint8  // bytes of the fixed header seen, 0 outside of it
	last bool   // the packet that has begun is the last one

	// Forbidden has the types of packets that end the stream with an error at their first byte.
	Forbidden Forbidden
	// Level is the protocol level for which Refusal makes a packet. It may be 0.
	Level byte
}

// These values of Framer.head mean that the stream has ended: the boundaries are no longer
// known, a forbidden packet has begun, or the last packet is complete.
const (
	headLost      = 5
	headForbidden = 6
	headEnded     = 7
)

// AtBoundary reports whether all packets that Advance has received are complete, and another
// packet may follow. It is true at the start of the stream.
func (f *Framer) AtBoundary() bool { return f.left == 0 && f.head == 0 }

// Remaining returns how many bytes of the current packet's body are still to come. It is 0
// between packets, within a fixed header, within a DISCONNECT, and after the end of the stream.
func (f *Framer) Remaining() int {
	if f.head != 0 || f.last {
		return 0
	}
	return int(f.left)
}

// Skip is Advance for the next n bytes of a body that the caller has not looked at. n must not
// be more than Remaining returns.
func (f *Framer) Skip(n int) { f.left -= uint32(min(n, f.Remaining())) }

// Advance receives the next bytes of the stream, in chunks of any size. It returns how many of
// them belong to the stream, which is all of them unless the stream ends in b:
//
//   - The error is io.EOF if the stream ends with a DISCONNECT. Its last byte is the last one
//     that n counts.
//   - It is a *MalformedError for a remaining length of more than four bytes or for a forbidden
//     packet. n then counts the complete packets before that one.
//
// Every later call returns 0 and the same error.
func (f *Framer) Advance(b []byte) (n int, err error) {
	rest := b
	after := len(b) // number of bytes of b after the last complete packet
	for {
		if f.head == 0 {
			body := min(len(rest), int(f.left))
			f.left -= uint32(body)
			rest = rest[body:]
			if f.left == 0 {
				if after = len(rest); f.last {
					f.head = headEnded
					return len(b) - after, io.EOF
				}
			}
			if len(rest) >= 2 && rest[1] < 0x80 { // most packets, in one step
				if t := Type(rest[0] >> 4); t != DISCONNECT && !f.Forbidden.has(t) {
					f.left = uint32(rest[1])
					rest = rest[2:]
					continue
				}
			}
		}
		if len(rest) == 0 && f.head < headLost {
			return len(b), nil
		}
		if err := f.step(rest); err != nil {
			return len(b) - after, err
		}
		rest = rest[1:]
	}
}

// step processes one byte of a fixed header.
func (f *Framer) step(b []byte) error {
	switch f.head {
	case headLost:
		return faultVarint.in(0, f.Level)
	case headForbidden:
		return f.forbidden()
	case headEnded:
		return io.EOF
	case 0:
		t := Type(b[0] >> 4)
		f.head, f.last = 1, t == DISCONNECT
		if f.Forbidden.has(t) {
			f.head, f.left = headForbidden, uint32(t)
			return f.forbidden()
		}
		return nil
	}
	f.left |= uint32(b[0]&0x7F) << (7 * (f.head - 1))
	if b[0] < 0x80 {
		f.head = 0
		return nil
	}
	if f.head++; f.head == headLost {
		return faultVarint.in(0, f.Level)
	}
	return nil
}

// forbidden returns the error for a forbidden packet, whose type is in f.left.
func (f *Framer) forbidden() error {
	if Type(f.left) == AUTH {
		return faultNoAuth.in(AUTH, f.Level)
	}
	return faultSecond.in(CONNECT, f.Level)
}

// Forbidden is a set of types of packets, see [Framer].
type Forbidden uint8

// A proxy forbids CONNECT to a client that has been accepted: it must not send another one, with
// another identity, to a broker that might accept it. [MQTT-3.1.0-2]
//
// It forbids AUTH, which exists in MQTT 5.0 only, where the other side has not been sent an
// authentication method. [MQTT-4.12.0-6], [MQTT-4.12.0-7]
const (
	ForbidCONNECT Forbidden = 1 << iota
	ForbidAUTH
)

func (f Forbidden) has(t Type) bool {
	return t == CONNECT && f&ForbidCONNECT != 0 || t == AUTH && f&ForbidAUTH != 0
}

// Refusal returns the DISCONNECT with the reason code of err for a sender that speaks MQTT 5.0,
// and nil for every other sender.
func (f *Framer) Refusal(err error) []byte {
	var malformed *MalformedError
	if f.Level < 5 || !errors.As(err, &malformed) {
		return nil
	}
	return (&Disconnect{Code: malformed.Code}).Append(nil, f.Level)
}
