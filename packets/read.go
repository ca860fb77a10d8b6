package packets

import (
	"fmt"
	"io"
)

const (
	// connectHead is how many bytes can be read before anything is known. No valid CONNECT is
	// shorter, and it includes the fixed header, the protocol name and the level, which have at
	// most 5 + 2+6 + 1 bytes.
	connectHead = 14
	// smallPacket is the size of the buffer that is allocated together with a Connect. Most
	// CONNECTs fit: a client identifier, a token and a few properties.
	smallPacket = 256
)

// ReadConnect reads one CONNECT from r, and never a byte beyond it, so everything that the
// client sent after it stays in r. It calls r.Read twice if all bytes are available, and
// refuses a first byte that cannot begin a CONNECT without waiting for a second.
//
// max is the size in bytes of the largest packet that is accepted, including the fixed header.
// No memory is allocated before the length is known to be within max, and of a longer packet no
// more than 14 bytes are read.
//
// The package comment describes the errors. After an error r cannot be used any further,
// because a part of the packet may have been read.
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
	// A packet of fewer bytes than were read is not valid, and Parse refuses it. The bytes of
	// the next packet that were read with it are therefore not needed.
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

// readHead fills head, or as much of it as the packet has bytes, and returns the number of
// bytes read and the size of the packet.
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

// checkHead decides from the first bytes whether to read the rest.
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

// firstOfTLS is the first byte of a TLS ClientHello.
const firstOfTLS = 0x16

// beginsConnect reports whether first can begin a CONNECT of some protocol level. MQTT 3.1
// leaves four bits unused, but a byte with those bits of a TLS record, which stand for the
// impossible QoS 3, is refused at once.
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

// ReadPacket reads one complete packet of any type from r, and never a byte beyond it. It is
// for the broker's answer to a CONNECT, which is a CONNACK or, in MQTT 5.0, an AUTH. It does
// not check the content; Type(raw[0] >> 4) is the packet's type.
//
// max is the size in bytes of the largest packet that is accepted, including the fixed header;
// nothing is allocated for a larger one. The errors are *TooLargeError, *MalformedError for a
// bad remaining length, and those of r, with io.ErrUnexpectedEOF if the stream ends within the
// packet and io.EOF if it ends before it.
func ReadPacket(r io.Reader, max int) ([]byte, error) {
	// The shortest packet has two bytes, and nearly every answer to a CONNECT fits into the
	// capacity that is allocated with them.
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

// inPacket returns the error for a read that ended within a packet.
func inPacket(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
