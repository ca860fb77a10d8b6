package packets

import (
	"fmt"
	"io"
)

const (
	// connectHead bytes can be asked for before anything is known: no valid
	// CONNECT is shorter, and the fixed header, the protocol name and the
	// level, at most 5 + 2+6 + 1, are all within.
	connectHead = 14
	// smallPacket is what is set aside for a packet in the allocation of its
	// Connect. Most CONNECTs fit: an identifier, a token and a few properties.
	smallPacket = 256
)

// ReadConnect reads one CONNECT from r: up to its last byte and never a byte
// more, so that whatever the client sent behind it stays in r. It calls
// r.Read twice when the bytes are there, and refuses a first byte that cannot
// be a CONNECT's without waiting for a second.
//
// max is the largest packet in bytes that is accepted, fixed header included.
// Nothing is allocated for a packet before its length is known to be within
// max; of one that is not, no more than 14 bytes are read.
//
// The errors are described at the top of the package. After an error r is of no
// further use: some of the packet is read, and some may not be.
func ReadConnect(r io.Reader, max int) (*Connect, error) {
	in := new(struct {
		Connect
		buf [smallPacket]byte
	})
	n, size, err := readHead(r, in.buf[:connectHead])
	if err != nil {
		return nil, err
	}
	if err := checkHead(in.buf[:n], size, max); err != nil {
		return nil, err
	}
	raw := in.buf[:min(size, smallPacket)]
	if size > smallPacket {
		raw = make([]byte, size)
		copy(raw, in.buf[:n])
	}
	// A packet of fewer bytes than were asked for is not valid: what was read
	// of the next one is lost, and Parse refuses this one.
	if n < size {
		if _, err := io.ReadFull(r, raw[n:]); err != nil {
			return nil, inPacket(err)
		}
	}
	if err := in.Parse(raw); err != nil {
		return nil, err
	}
	return &in.Connect, nil
}

// readHead fills head, or as much of it as the packet has bytes, and returns
// the number of bytes read and the size of the packet.
func readHead(r io.Reader, head []byte) (n, size int, err error) {
	for {
		m, err := r.Read(head[n:])
		n += m
		if m > 0 {
			if !beginsConnect(head[0]) {
				return n, 0, notConnect(head[0])
			}
			var malformed error
			if size, malformed = PacketSize(head[:n], 0); malformed != nil {
				return n, 0, malformed
			}
		}
		if n == len(head) || size > 0 && n >= size {
			return n, size, nil
		}
		if err != nil {
			if n > 0 {
				err = inPacket(err)
			}
			return n, 0, err
		}
	}
}

// checkHead decides from the first bytes whether the rest is worth reading.
func checkHead(head []byte, size, max int) error {
	cur, err := openPart(head, CONNECT, 0)
	if err != nil {
		return err
	}
	_, err = cur.protocol()
	unknown, ok := err.(*ProtocolLevelError)
	switch {
	case ok && (unknown.Name == "" || size > max):
		return err
	case size > max:
		return &TooLargeError{Size: size, Max: max, Level: cur.level}
	}
	return nil
}

// firstOfTLS begins a TLS client hello.
const firstOfTLS = 0x16

// beginsConnect reports whether a CONNECT of some protocol level can begin with
// first. Four bits are unused in MQTT 3.1, but a client that sets just those that
// make it look like TLS, the QoS 3 that does not exist, is not worth waiting for.
func beginsConnect(first byte) bool {
	return Type(first>>4) == CONNECT && first != firstOfTLS
}

// notConnect returns an error that names what the client seems to speak instead. An HTTP request
// and a PROXY header of version 1 begin with a capital letter, and one of version 2 with a
// carriage return.
func notConnect(first byte) error {
	like := "nothing known"
	switch t := Type(first >> 4); {
	case first == firstOfTLS:
		like = "TLS"
	case first >= 'A' && first <= 'Z':
		like = "HTTP or a PROXY protocol header"
	case first == '\r':
		like = "a PROXY protocol header"
	case t > CONNECT:
		like = t.String()
	}
	return fmt.Errorf("%w: looks like %s", ErrNotConnect, like)
}

// ReadPacket reads one packet of any type from r, whole and never a byte more,
// such as the answer of a broker to a CONNECT: CONNACK, or AUTH in MQTT 5.0. It
// does not look inside; Type(raw[0] >> 4) is the packet's type.
//
// max is the largest packet in bytes that is accepted, fixed header included;
// nothing is allocated for a larger one. The errors are *TooLargeError,
// *MalformedError for a bad remaining length, and those of r, with
// io.ErrUnexpectedEOF for an end in mid-packet and io.EOF for one before it.
func ReadPacket(r io.Reader, max int) ([]byte, error) {
	// Two bytes are the shortest packet there is, and nearly every first answer
	// fits in what is allocated with them.
	raw := make([]byte, 2, 64)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	size, err := PacketSize(raw, 0)
	for size == 0 && err == nil {
		n := len(raw)
		raw = raw[:n+1]
		if _, err := io.ReadFull(r, raw[n:]); err != nil {
			return nil, inPacket(err)
		}
		size, err = PacketSize(raw, 0)
	}
	switch {
	case err != nil:
		return nil, err
	case size > max:
		return nil, &TooLargeError{Size: size, Max: max}
	}
	n := len(raw)
	if size > cap(raw) {
		raw = append(make([]byte, 0, size), raw...)
	}
	raw = raw[:size]
	if _, err := io.ReadFull(r, raw[n:]); err != nil {
		return nil, inPacket(err)
	}
	return raw, nil
}

// inPacket returns the error of a read that a packet was cut short by.
func inPacket(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
