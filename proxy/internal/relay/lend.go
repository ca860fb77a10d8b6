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

// tlsInput is where a TLS connection keeps what it has read. crypto/tls never gives
// that memory back: one large record costs 17 KiB for as long as the connection
// lasts. So a buffer is lent to it for the moment it reads, and many records come
// with one system call, without an allocation.
//
// The fields have no public name. They are found by reflection, and only if their
// types are the expected ones and a connection of our own still works afterwards;
// else TLS connections keep their memory, and that is all.
type tlsInput struct {
	raw    *bytes.Buffer // sealed records
	opened *bytes.Reader // the rest of the last one, opened; it aliases raw
	hand   *bytes.Buffer // parts of handshake messages
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

// lend moves what is in there to b, which must be larger. It is also how a record
// that does not fit behind others gets the whole of b.
func (in tlsInput) lend(b []byte) {
	*in.raw = *bytes.NewBuffer(b[:copy(b, in.raw.Bytes())])
}

// received notes that n bytes more of b, which is lent, have been read.
func (in tlsInput) received(b []byte, n int) {
	*in.raw = *bytes.NewBuffer(b[:in.raw.Len()+n])
}

// ready reports whether the connection can be read without reading from its socket,
// be it only to find out what is wrong.
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

// takeBack ends the loan of a connection that is not ready. What there is of a next
// record moves to memory of its own.
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
