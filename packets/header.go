package packets

const (
	maxField     = 65535       // bytes that a field's 16-bit length can announce
	maxRemaining = 268_435_455 // bytes that a four-byte remaining length can announce

	wildcards = "+#" // not in a topic name, MQTT 5.0 section 4.7.1
)

// PacketSize returns the whole size in bytes, fixed header included, of the
// packet that b begins, or 0 when b is too short to tell. Five bytes are always
// enough. level is the protocol level of the connection, 0 while it is not known.
// The error is a *MalformedError for a remaining length of more than four bytes,
// and in MQTT 5.0 for one of more bytes than it needs. [MQTT-1.5.5-1]
func PacketSize(b []byte, level byte) (int, error) {
	head, size, err := header(b)
	if err == nil && size > 0 && level >= 5 && !shortest(head, size) {
		return 0, faultVarintLong.in(Type(b[0]>>4), level)
	}
	return size, err
}

// header returns the sizes of the fixed header and of the whole packet.
func header(b []byte) (head, size int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	remaining, n := varint(b[1:])
	switch {
	case n < 0:
		return 0, 0, faultVarint.in(Type(b[0]>>4), 0)
	case n == 0:
		return 0, 0, nil
	}
	return 1 + n, 1 + n + remaining, nil
}

// shortest reports whether a fixed header of head bytes is as short as that of a
// packet of size bytes can be.
func shortest(head, size int) bool { return head == 1+varintLen(size-head) }

// varint reads a variable byte integer, MQTT 5.0 section 1.5.5, and returns the
// bytes it takes: 0 when b ends inside of it, -1 when it takes more than four. It
// may take more than it needs: MQTT 5.0 alone forbids that.
func varint(b []byte) (value, size int) {
	for i, c := range b[:min(len(b), 4)] {
		value |= int(c&0x7F) << (7 * i)
		if c < 0x80 {
			return value, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}

// shortVarint is varint for a place that only MQTT 5.0 has: the size is -1 as well
// when the integer takes more bytes than it needs.
func shortVarint(b []byte) (value, size int) {
	value, size = varint(b)
	if size > varintLen(value) {
		return 0, -1
	}
	return value, size
}

func appendVarint(dst []byte, n int) []byte {
	for n > 0x7F {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func varintLen(n int) int {
	size := 1
	for ; n > 0x7F; n >>= 7 {
		size++
	}
	return size
}

func appendUint16(dst []byte, n uint16) []byte {
	return append(dst, byte(n>>8), byte(n))
}

// appendField writes a length and a string or binary field, cut where its
// length could not be said: a longer one would be read as further fields.
func appendField[T string | []byte](dst []byte, field T) []byte {
	field = field[:min(len(field), maxField)]
	dst = appendUint16(dst, uint16(len(field)))
	return append(dst, field...)
}

func fieldLen[T string | []byte](field T) int {
	return 2 + min(len(field), maxField)
}
