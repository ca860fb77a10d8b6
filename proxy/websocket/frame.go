package websocket

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"
)

// Codes of Close frames (RFC 6455 section 7.4.1).
const (
	NormalClosure   = 1000
	GoingAway       = 1001
	ProtocolError   = 1002
	UnsupportedData = 1003
	InvalidText     = 1007
	PolicyViolation = 1008
	MessageTooBig   = 1009
)

// FrameError is a violation of the protocol by the client. The code has been sent to the
// client.
type FrameError struct {
	Code int
	Text string
}

// Error describes the violation.
func (e *FrameError) Error() string { return fmt.Sprintf("WebSocket: %s (%d)", e.Text, e.Code) }

func breach(format string, args ...any) error {
	return &FrameError{Code: ProtocolError, Text: fmt.Sprintf(format, args...)}
}

// Opcodes (RFC 6455 section 5.2).
const (
	continuation = 0x0
	text         = 0x1
	binaryData   = 0x2
	closing      = 0x8
	ping         = 0x9
	pong         = 0xA
)

const (
	finalBit   = 0x80
	reserved   = 0x70
	maskBit    = 0x80
	lengthBits = 0x7F
	length16   = 126
	length64   = 127

	maxHeader  = 14  // in bytes, including the mask
	maxControl = 125 // payload of a control frame, in bytes
	// maxMessage is the size of the largest message, in bytes: that of the largest MQTT packet.
	// Messages are not buffered, so the limit costs no memory.
	maxMessage = 5 + 268435455
)

// A client may send this many frames without data in this time, unless data comes between them:
// each has to be handled, and a ping has to be answered.
const (
	idleBurst  = 100
	idlePeriod = 10 * time.Second
)

// decoder decodes the frames of a client, wherever reads split them.
type decoder struct {
	head   [maxHeader]byte // of the current frame
	n      int             // number of its bytes in head
	opcode byte            // of the current frame
	mask   [4]byte
	at     int   // position in the mask
	left   int64 // bytes of the payload that are still missing

	inFrame bool // the header is complete, the payload is not

	inMessage bool  // the last data frame was not the last of its message
	size      int64 // of the message so far
	control   []byte
	idle      int       // frames without data
	since     time.Time // when counting them began
}

// header adds b to the header of the current frame. It reports whether the header is complete.
func (d *decoder) header(b byte) (done bool, err error) {
	d.head[d.n] = b
	d.n++
	if d.n == 1 {
		return false, d.begin(b)
	}
	if d.n < headerSize(d.head[1]) {
		if d.n == 2 && b&maskBit == 0 {
			return false, breach("a frame without a mask")
		}
		return false, nil
	}
	return true, d.open()
}

// begin checks the first byte of a frame.
func (d *decoder) begin(b byte) error {
	d.opcode = b & 0x0F
	final := b&finalBit != 0
	switch {
	case b&reserved != 0:
		return breach("a reserved bit is set")
	case d.opcode == text:
		return &FrameError{Code: UnsupportedData, Text: "a text message: MQTT is binary"}
	case d.opcode >= closing && d.opcode <= pong:
		if !final {
			return breach("a fragmented control frame")
		}
		return nil
	case d.opcode > binaryData:
		return breach("opcode %d", d.opcode)
	case (d.opcode == continuation) != d.inMessage:
		return breach("a data frame out of sequence")
	}
	if !d.inMessage {
		d.size = 0
	}
	d.inMessage = !final
	return nil
}

// headerSize returns the size of a frame's header from its second byte.
func headerSize(second byte) int {
	switch second & lengthBits {
	case length16:
		return 2 + 2 + 4
	case length64:
		return 2 + 8 + 4
	}
	return 2 + 4
}

// open starts the payload of a frame whose header is complete.
func (d *decoder) open() error {
	size := uint64(d.head[1] & lengthBits)
	shortest := uint64(0)
	switch size {
	case length16:
		size, shortest = uint64(binary.BigEndian.Uint16(d.head[2:])), length16
	case length64:
		size, shortest = binary.BigEndian.Uint64(d.head[2:]), 1<<16
	}
	copy(d.mask[:], d.head[d.n-4:d.n])
	d.n, d.at, d.left = 0, 0, 0
	isControl := d.opcode >= closing
	switch {
	case size < shortest:
		return breach("a length that is not in its shortest form")
	case isControl && size > maxControl:
		return breach("a control frame of %d bytes", size)
	case isControl:
		d.control = d.control[:0]
	case size > uint64(maxMessage-d.size):
		return &FrameError{Code: MessageTooBig, Text: "a message larger than any MQTT packet"}
	default:
		d.size += int64(size)
	}
	d.left = int64(size)
	return nil
}

// unmask removes the mask from b, which is the next part of the payload.
func (d *decoder) unmask(b []byte) {
	d.left -= int64(len(b))
	var key [8]byte
	for i := range key {
		key[i] = d.mask[(d.at+i)&3]
	}
	d.at = (d.at + len(b)) & 3
	for eight := binary.LittleEndian.Uint64(key[:]); len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^eight)
	}
	for i := range b {
		b[i] ^= key[i]
	}
}

// excess counts a frame without data, and reports whether there were too many of them.
func (d *decoder) excess(now time.Time) bool {
	if now.Sub(d.since) > idlePeriod {
		d.since, d.idle = now, 0
	}
	d.idle++
	return d.idle > idleBurst
}

// closeCode returns the code of a client's Close frame, which the answer repeats (RFC 6455
// section 5.5.1).
func closeCode(payload []byte) (int, error) {
	switch {
	case len(payload) == 0:
		return NormalClosure, nil
	case len(payload) == 1:
		return 0, breach("a Close frame of one byte")
	}
	code := int(binary.BigEndian.Uint16(payload))
	switch {
	case !mayBeSent(code):
		return 0, breach("a Close frame with code %d", code)
	case !utf8.Valid(payload[2:]):
		return 0, &FrameError{Code: InvalidText, Text: "a Close frame whose reason is not UTF-8"}
	}
	return code, nil
}

// mayBeSent reports whether a Close frame may have the code.
func mayBeSent(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}
