package packets

const (
	maxField     = 65535       // bytes that a field's 16-bit length can announce
	maxRemaining = 268_435_455 // bytes that a four-byte remaining length can announce

	wildcards = "+#" // not in a topic name, MQTT 5.0 section 4.7.1
)

// PacketSize returns the whole size in bytes, including the fixed header, of the packet at the
// beginning of b. It returns 0 if b is too short; five bytes are always enough. level is the
// protocol level of the connection, or 0 if it is not known yet. The error is a *MalformedError
// for a remaining length of more than four bytes, and in MQTT 5.0 for one of more bytes than it
// needs. [MQTT-1.5.5-1]
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

// varint reads a variable byte integer, MQTT 5.0 section 1.5.5, and returns its size in bytes:
// 0 if b ends within it, and -1 if it has more than four bytes. It need not be in its shortest
// form, which only MQTT 5.0 requires.
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

// shortVarint is varint for fields that only MQTT 5.0 has. The size is -1 also if the integer
// is not in its shortest form.
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

// appendField appends a length and a string or binary field. A field that is too long for its
// length is truncated, because the rest would be read as further fields.
func appendField[T string | []byte](dst []byte, field T) []byte {
	field = field[:min(len(field), maxField)]
	dst = appendUint16(dst, uint16(len(field)))
	return append(dst, field...)
}

func fieldLen[T string | []byte](field T) int {
	return 2 + min(len(field), maxField)
}
