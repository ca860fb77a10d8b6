package packets

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

// cursor reads the fields of one packet in order.
type cursor struct {
	b     []byte // the packet, or the part of it that has arrived
	text  string // the same bytes, for fields of type string
	off   int    // offset of the next field in b
	need  int    // where the field that could not be read ends
	size  int    // of the whole packet: len(b) or more
	typ   Type
	level byte // 0 until it is known
}

// openPart begins to read a packet of type t. b has its first bytes, at least the fixed header,
// and may have bytes beyond the packet.
func openPart(b []byte, t Type, level byte) (cursor, error) {
	head, size, err := header(b)
	switch {
	case err != nil:
		return cursor{}, err
	case size == 0:
		return cursor{}, io.ErrUnexpectedEOF
	case Type(b[0]>>4) != t:
		return cursor{}, faultType.in(Type(b[0]>>4), level)
	}
	c := cursor{b: b[:min(len(b), size)], off: head, size: size, typ: t, level: level}
	if level == 0 {
		return c, nil
	}
	return c, c.checkHeader(head)
}

// checkHeader checks the fixed header, which has head bytes, by the rules of the packet's
// protocol level.
func (c *cursor) checkHeader(head int) error {
	switch {
	case !c.typ.allows(c.b[0], c.level):
		return c.refuse(faultFlags)
	case c.level >= 5 && !shortest(head, c.size):
		return c.refuse(faultVarintLong)
	}
	return nil
}

// open begins to read a packet of type t, which must be all of raw.
func open(raw []byte, t Type, level byte) (cursor, error) {
	c, err := openPart(raw, t, level)
	if err == io.ErrUnexpectedEOF || err == nil && c.size != len(raw) {
		return cursor{}, faultSize.in(t, level)
	}
	return c, err
}

// refuse returns the fault as an error of this packet.
func (c *cursor) refuse(f *fault) error {
	return f.in(c.typ, c.level)
}

// short returns the error for a field that could not be read: fault f if the field extends
// beyond the packet, and io.ErrUnexpectedEOF if it only extends beyond the part that has
// arrived.
func (c *cursor) short(f *fault) error {
	if c.need > c.size {
		return c.refuse(f)
	}
	return io.ErrUnexpectedEOF
}

// done checks that the packet ends here.
func (c *cursor) done() error {
	if c.off < c.size {
		return c.refuse(faultTrailing)
	}
	return nil
}

// left reports whether there are more bytes to read.
func (c *cursor) left() bool { return c.off < len(c.b) }

func (c *cursor) take(n int) ([]byte, bool) {
	c.need = c.off + n
	if c.need > len(c.b) {
		return nil, false
	}
	// The capacity ends with the field, so that appending to it does not overwrite the next
	// field.
	field := c.b[c.off:c.need:c.need]
	c.off = c.need
	return field, true
}

func (c *cursor) byte() (byte, bool) {
	b, ok := c.take(1)
	if !ok {
		return 0, false
	}
	return b[0], true
}

func (c *cursor) uint16() (uint16, bool) {
	b, ok := c.take(2)
	if !ok {
		return 0, false
	}
	return uint16(b[0])<<8 | uint16(b[1]), true
}

// field reads a string or binary field with its 16-bit length.
func (c *cursor) field() ([]byte, bool) {
	n, ok := c.uint16()
	if !ok {
		return nil, false
	}
	return c.take(int(n))
}

// string reads a field as a part of c.text.
func (c *cursor) string() (string, bool) {
	b, ok := c.field()
	if !ok {
		return "", false
	}
	return c.text[c.off-len(b) : c.off], true
}

// properties reads the property length and the properties, without checking them. Below level 5
// there are none.
func (c *cursor) properties() (Properties, error) {
	if c.level < 5 {
		return nil, nil
	}
	n, size := shortVarint(c.b[c.off:])
	if size < 0 {
		return nil, c.refuse(faultVarintLong)
	}
	if size == 0 {
		c.need = len(c.b) + 1
		return nil, c.short(faultPropertyLength)
	}
	c.off += size
	b, ok := c.take(n)
	switch {
	case !ok:
		return nil, c.short(faultPropertyLength)
	case n == 0:
		return nil, nil
	}
	return b, nil
}

// checkedProperties reads properties and checks them for this packet.
func (c *cursor) checkedProperties() (Properties, error) {
	p, err := c.properties()
	if err != nil {
		return nil, err
	}
	if f := p.fault(c.typ); f != nil {
		return nil, c.refuse(f)
	}
	return p, nil
}

// packetID reads a packet identifier, which is never 0.
func (c *cursor) packetID() (uint16, error) {
	id, ok := c.uint16()
	switch {
	case !ok:
		return 0, c.short(faultShort)
	case id == 0:
		return 0, c.refuse(faultPacketID)
	}
	return id, nil
}

// textFault checks the content of a string. It returns malformed if the string is not UTF-8.
// Package utf8 refuses surrogates, too.
func textFault(b []byte, malformed *fault) *fault {
	return contentFault(len(b), utf8.Valid(b), bytes.IndexByte(b, 0) >= 0, malformed)
}

// stringFault is textFault for a string, which would have to be copied to become a slice.
func stringFault(s string, malformed *fault) *fault {
	return contentFault(len(s), utf8.ValidString(s), strings.IndexByte(s, 0) >= 0, malformed)
}

func contentFault(size int, valid, nul bool, malformed *fault) *fault {
	switch {
	case size > maxField:
		return faultFieldLength
	case !valid:
		return malformed
	case nul:
		return faultNUL
	}
	return nil
}
