package packets

// Framer follows one direction of a connection and knows whether it stands
// between two packets, which is where a packet of one's own may be put in. It
// reads the fixed headers and skips the rest. The zero value stands before the
// first packet, in 8 bytes.
//
// A Framer does not judge what it follows. A remaining length that takes more
// bytes than it needs, which MQTT 5.0 forbids, is followed: the boundary is the
// same for all who read it.
type Framer struct {
	left uint32 // bytes of the body still to come, or the part of the length known so far
	head uint8  // bytes of the fixed header seen, 0 outside of it

	// Forbidden is a type of packet that ends the stream with an error at its
	// first byte; 0 forbids none. A proxy sets it to CONNECT: a client that has
	// been let in must not present itself again, as somebody else, to a broker
	// that might listen. [MQTT-3.1.0-2]
	Forbidden Type
}

// In Framer.head these say that the stream is at its end for good: the boundaries
// are lost, or a forbidden packet has begun.
const (
	headLost      = 5
	headForbidden = 6
)

// AtBoundary reports whether everything given to Advance so far is a number of
// whole packets, or nothing.
func (f *Framer) AtBoundary() bool { return f.left == 0 && f.head == 0 }

// Left returns how many bytes of the current packet's body are still to come: 0
// between packets, inside of a fixed header and at the end for good.
func (f *Framer) Left() int {
	if f.head != 0 {
		return 0
	}
	return int(f.left)
}

// Skip is Advance for the next n bytes of a body that nobody has looked at. n must not
// be more than Left.
func (f *Framer) Skip(n int) { f.left -= uint32(min(n, f.Left())) }

// forbids reports whether a packet that begins with first ends the stream.
func (f *Framer) forbids(first byte) bool { return f.Forbidden != 0 && Type(first>>4) == f.Forbidden }

// Advance takes the next bytes of the stream, in chunks of any size. The error
// is a *MalformedError for a remaining length of more than four bytes or for a
// forbidden packet; no boundary is known from there on, and every later call
// returns it again.
func (f *Framer) Advance(b []byte) error {
	for {
		if f.head == 0 {
			n := min(len(b), int(f.left))
			f.left -= uint32(n)
			b = b[n:]
			if len(b) >= 2 && b[1] < 0x80 && !f.forbids(b[0]) { // most packets, in one step
				f.left = uint32(b[1])
				b = b[2:]
				continue
			}
		}
		if len(b) == 0 && f.head < headLost {
			return nil
		}
		if err := f.step(b); err != nil {
			return err
		}
		b = b[1:]
	}
}

// step takes one byte of a fixed header.
func (f *Framer) step(b []byte) error {
	switch f.head {
	case headLost:
		return faultVarint.in(0, 0)
	case headForbidden:
		return faultSecond.in(f.Forbidden, 0)
	case 0:
		f.head = 1
		if f.forbids(b[0]) {
			f.head = headForbidden
			return faultSecond.in(f.Forbidden, 0)
		}
		return nil
	}
	f.left |= uint32(b[0]&0x7F) << (7 * (f.head - 1))
	if b[0] < 0x80 {
		f.head = 0
		return nil
	}
	if f.head++; f.head == headLost {
		return faultVarint.in(0, 0)
	}
	return nil
}
