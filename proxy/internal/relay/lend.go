package relay

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// lendBuffer is the size of the buffer a TLS connection reads records into, in
// bytes: four records of the largest size, and what is left of a fifth.
const lendBuffer = 72 << 10

// recordHeader and maxRecord are sizes in bytes (RFC 8446 section 5.1, RFC 5246
// section 6.2.3).
const (
	recordHeader = 5
	maxPlaintext = 16 << 10
	maxRecord    = maxPlaintext + 2048
)

// tlsInput points to the fields in which a TLS connection keeps what it has read. crypto/tls
// never releases that memory: one large record costs 17 KiB for as long as the connection
// lasts. So the relay lends it a buffer while it reads. Many records then take one system call
// and no allocation.
//
// The fields are not exported. They are found by reflection, and used only if their types are
// the expected ones and a test connection works with a lent buffer. Otherwise TLS connections
// keep their memory, and nothing else changes.
type tlsInput struct {
	raw    *bytes.Buffer // sealed records
	opened *bytes.Reader // the rest of the last one, opened; it aliases raw
	hand   *bytes.Buffer // incomplete handshake messages
}

type tlsOffsets struct{ raw, opened, hand uintptr }

// findTLSInput returns where the fields of tlsInput are in a [tls.Conn].
func findTLSInput() (o tlsOffsets, ok bool) {
	conn := reflect.TypeFor[tls.Conn]()
	for _, want := range []struct {
		name   string
		typ    reflect.Type
		offset *uintptr
	}{
		{"rawInput", reflect.TypeFor[bytes.Buffer](), &o.raw},
		{"input", reflect.TypeFor[bytes.Reader](), &o.opened},
		{"hand", reflect.TypeFor[bytes.Buffer](), &o.hand},
	} {
		f, found := conn.FieldByName(want.name)
		if !found || f.Type != want.typ {
			return o, false
		}
		*want.offset = f.Offset
	}
	return o, true
}

func (o tlsOffsets) of(c *tls.Conn) tlsInput {
	p := unsafe.Pointer(c)
	return tlsInput{
		raw:    (*bytes.Buffer)(unsafe.Add(p, o.raw)),
		opened: (*bytes.Reader)(unsafe.Add(p, o.opened)),
		hand:   (*bytes.Buffer)(unsafe.Add(p, o.hand)),
	}
}

// lend moves the sealed records to the beginning of b, which must be larger, and makes b the
// buffer. It is called again if a record does not fit into the rest of b.
func (in tlsInput) lend(b []byte) {
	*in.raw = *bytes.NewBuffer(b[:copy(b, in.raw.Bytes())])
}

// received records that n more bytes have been read into b, which is lent.
func (in tlsInput) received(b []byte, n int) {
	*in.raw = *bytes.NewBuffer(b[:in.raw.Len()+n])
}

// ready reports whether a read of the connection returns something, possibly an error, without
// reading from the socket.
func (in tlsInput) ready() bool {
	if in.opened.Len() > 0 {
		return true
	}
	b := in.raw.Bytes()
	if len(b) < recordHeader {
		return false
	}
	n := int(b[3])<<8 | int(b[4])
	return n > maxRecord || len(b) >= recordHeader+n
}

// missing returns how many bytes are to be read next for a connection that is not ready and of
// which little is read: those that complete the record that has begun, or a small buffer.
func (in tlsInput) missing() int {
	b := in.raw.Bytes()
	if len(b) < recordHeader {
		return smallBuffer
	}
	return recordHeader + int(b[3])<<8 + int(b[4]) - len(b)
}

// takeBack ends the loan to a connection that has no opened bytes left. The records that it has
// not opened, and the beginning of the next one, move to memory of its own.
func (in tlsInput) takeBack() {
	var rest bytes.Buffer
	if in.raw.Len() > 0 {
		rest = *bytes.NewBuffer(bytes.Clone(in.raw.Bytes()))
	}
	*in.raw = rest
	*in.opened = bytes.Reader{}
	if in.hand.Len() == 0 {
		*in.hand = bytes.Buffer{}
	}
}
