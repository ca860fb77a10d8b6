package packets

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"
	"testing/iotest"
)

// FuzzReadConnect: a packet that is accepted is written back unchanged, no byte after it is
// read, and the result does not depend on how the bytes are split.
func FuzzReadConnect(f *testing.F) {
	for _, raw := range connects() {
		f.Add(raw)
		f.Add(append(raw, "\xC0\x00"...))
		f.Add(raw[:len(raw)-1])
	}
	id := field("id")
	f.Add(connect(3|bridgeBit, 0xE6, id, field("w"), field("m"), field("u"), field("p")))
	f.Add(connect(5, 2, props(text(AuthenticationMethod, "m"), text(AuthenticationData, "d"), pairOf("a", "b"), num(0x27, 0, 0, 1, 0)), id))
	f.Add(connect(5, 0x1E, props(), id, props(num(0x18, 0, 0, 0, 1), text(ResponseTopic, "r")), field("w"), field("m")))
	f.Add(connect(5, 3, props(num(0x21, 0, 0)), id))
	f.Add(connect(6, 2, id))
	f.Add(longer(connect(4, 2, id)))
	f.Add(connect(3, 0xFB, id, field("u")))
	f.Add([]byte("\x10\xFF\xFF\xFF\x7F\x00\x06MQIsdp\x03"))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 16
		whole := bytes.NewReader(data)
		c, err := ReadConnect(whole, limit)
		byByte, byByteErr := ReadConnect(iotest.OneByteReader(bytes.NewReader(data)), limit)
		if !reflect.DeepEqual(c, byByte) || !reflect.DeepEqual(err, byByteErr) {
			t.Fatalf("whole: %v, %v; byte by byte: %v, %v", c, err, byByte, byByteErr)
		}
		if err != nil {
			if c != nil {
				t.Fatal("a packet together with an error")
			}
			return
		}
		size := len(data) - whole.Len()
		if got := c.Append(nil); c.Level == 5 && !bytes.Equal(got, data[:size]) {
			t.Fatalf("Append wrote %x, read was %x", got, data[:size])
		} else if again, err := parseConnect(got); len(got) > size || err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("%x became %x: %v, %v, %v", data[:size], got, c, again, err)
		}
		if err := c.Check(); err != nil {
			t.Fatalf("Parse accepts what Check refuses: %v", err)
		}
	})
}

// FuzzConnack tests the packets that are parsed as a whole; the first byte and the level select
// the type.
func FuzzConnack(f *testing.F) {
	for _, level := range []byte{3, 4, 5} {
		f.Add(packet(0x20, "\x01\x00"), level)
		f.Add(packet(0x20, "\x00\x86", props(text(ReasonString, "r"), pairOf("a", "b"))), level)
		f.Add(packet(0xE0, "\x98", props(text(serverReference, "s"))), level)
		f.Add(packet(0x62, "\x00\x01\x92"), level)
		f.Add(packet(0xF0, "\x19", props(text(AuthenticationMethod, "m"), text(AuthenticationData, "d"))), level)
		f.Add(packet(0x82, "\x00\x01", field("a/#"), "\x01"), level)
		f.Add(packet(0x82, "\x00\x01", props(num(0x0B, 1)), field("a/#"), "\x01"), level)
		f.Add(packet(0xB0, "\x00\x01", props(), "\x11\x80"), level)
	}
	f.Fuzz(func(t *testing.T, raw []byte, level byte) {
		level = 3 + level%3
		for _, p := range []parser{&Connack{}, &Disconnect{}, &Ack{}, &Subscribe{}, &Suback{}, &Auth{}} {
			if p.Parse(raw, level) != nil {
				continue
			}
			out := p.Append(nil, level)
			if _, connack := p.(*Connack); connack && level == 5 && !bytes.Equal(out, raw) {
				t.Fatalf("Append wrote %x, read was %x", out, raw)
			}
			again := reflect.New(reflect.TypeOf(p).Elem()).Interface().(parser)
			if err := again.Parse(out, level); err != nil || !reflect.DeepEqual(p, again) {
				t.Fatalf("%x became %x: %+v, %+v, %v", raw, out, p, again, err)
			}
			if len(out) > len(raw) {
				t.Fatalf("%x became longer: %x", raw, out)
			}
		}
	})
}

// FuzzProperties: no bytes make a method panic, and edits of valid properties
// are valid.
func FuzzProperties(f *testing.F) {
	f.Add([]byte(num(0x11, 0, 0, 0, 1)+pairOf("token", "T")+text(AuthenticationMethod, "m")+text(AuthenticationData, "d")), "token", byte(CONNECT))
	f.Add([]byte(text(ReasonString, "r")+text(AssignedClientIdentifier, "id")+num(0x21, 0, 1)), "r", byte(CONNACK))
	f.Add([]byte(num(0x0B, 0x80, 0x01)+num(0x23, 0, 1)+text(ResponseTopic, "t")), "", byte(PUBLISH))
	f.Add([]byte(num(0x18, 0, 0, 0, 1)+num(0x01, 1)), "", byte(0))
	f.Add([]byte("\x26\x00\x01n\xFF\xFF"), "n", byte(1))
	f.Fuzz(func(t *testing.T, raw []byte, name string, place byte) {
		p := Properties(raw)
		before := bytes.Clone(raw)
		value, found := p.UserProperty(name)
		without := p.WithoutUserProperty(name).Without(AuthenticationMethod, AuthenticationData)
		with := without.With(ReasonString, name)
		p.AuthenticationData()
		p.SessionExpiryInterval()
		p.TopicAlias()
		if !bytes.Equal(raw, before) {
			t.Fatal("an edit changed the original")
		}
		if p.fault(Type(place%16)) != nil {
			return
		}
		if f := without.fault(Type(place % 16)); f != nil {
			t.Fatalf("valid before Without, and then %s", f.reason)
		}
		if again, left := without.UserProperty(name); left {
			t.Fatalf("user property %q is still %q", name, again)
		}
		if reason, _ := with.ReasonString(); len(name) <= maxField && reason != name {
			t.Fatalf("reason string is %q, want %q", reason, name)
		}
		var all []byte
		names := 0
		for id, v := range p.All() {
			all = append(append(all, byte(id)), v...)
			if n, text := splitPair(id, v); n == name && id == UserProperty {
				if names++; names == 1 && (!found || text != value) {
					t.Fatalf("first user property %q is %q, got %q", name, text, value)
				}
			}
		}
		if !bytes.Equal(all, raw) || (names > 0) != found {
			t.Fatalf("All yields %x of %x, %d times the name", all, raw, names)
		}
	})
}

func splitPair(id PropertyID, value []byte) (name, text string) {
	if id != UserProperty {
		return "", ""
	}
	n, v := pair(value)
	return string(n), string(v)
}

// FuzzPublish: a packet that is accepted is written back with the same content, and its header
// is parsed as soon as it has arrived.
func FuzzPublish(f *testing.F) {
	for _, level := range []byte{3, 4, 5} {
		f.Add(packet(0x30, field("v1/devices/me/telemetry"), `{"temperature":25}`), level)
		f.Add(packet(0x3B, field("t"), "\x00\x01", "payload"), level)
		f.Add(packet(0x32, field(""), "\x00\x01", props(num(0x23, 0, 1), num(0x0B, 0x80, 0x01)), "p"), level)
		f.Add([]byte("\x30\xFF\x7F\x00\x01t"), level)
	}
	f.Fuzz(func(t *testing.T, b []byte, level byte) {
		level = 3 + level%3
		var p Publish
		head, err := p.Parse(b, level)
		if err != nil {
			return
		}
		for n := range min(head, 64) {
			if _, err := new(Publish).Parse(b[:n], level); err != io.ErrUnexpectedEOF {
				t.Fatalf("%d of %d header bytes: %v", n, head, err)
			}
		}
		size, _ := PacketSize(b, level)
		fixed, _, _ := header(b)
		as := func(got []byte, n int) bool { // the bytes of b, with the shortest remaining length
			return bytes.Equal(got, slices.Concat(b[:1], appendVarint(nil, size-fixed), b[fixed:n]))
		}
		if got := p.AppendHeader(nil, level, size-head); !as(got, head) {
			t.Fatalf("AppendHeader wrote %x, read was %x", got, b[:head])
		}
		if size <= len(b) && !as(p.Append(nil, level), size) {
			t.Fatalf("Append wrote %x, read was %x", p.Append(nil, level), b[:size])
		}
	})
}

// FuzzFramer: however the bytes are split, the boundaries and the end are those of a reader
// that takes one byte at a time.
func FuzzFramer(f *testing.F) {
	f.Add([]byte("\xC0\x00\x30\x03\x00\x01t\xE0\x00"), []byte{1, 4, 2})
	f.Add([]byte("\xC0\x00\xE0\x02\x04\x00\xC0\x00\x10"), []byte{1, 4, 2})
	f.Add(append(packet(0x30, field("t"), string(make([]byte, 200))), 0xD0, 0), []byte{0, 3, 200})
	f.Add([]byte("\x30\xFF\xFF\xFF\xFF\xC0\x00"), []byte{2})
	f.Add([]byte("\x30\x80\x00\x30\x80\x80\x80\x00\x10\x00\xC0\x00"), []byte{1})
	f.Fuzz(func(t *testing.T, stream, chunks []byte) {
		boundary, whole, lost, end := boundaries(stream)
		framer := Framer{Forbidden: ForbidCONNECT | ForbidAUTH}
		at := 0
		for i := 0; at < len(stream); i++ {
			n := len(stream) - at
			if len(chunks) > 0 {
				n = min(n, int(chunks[i%len(chunks)])+1)
			}
			got, err := framer.Advance(stream[at : at+n])
			want, malformed, ended := n, lost > 0 && at+n >= lost, end > 0 && at+n >= end
			switch {
			case malformed:
				want = max(0, whole-at)
			case ended:
				want = max(0, end-at)
			}
			if got != want || errors.As(err, new(*MalformedError)) != malformed || (err == io.EOF) != ended {
				t.Fatalf("%d to %d: %d bytes and %v, want %d; lost at %d, ended at %d", at, at+n, got, err, want, lost, end)
			}
			if at += n; framer.AtBoundary() != (boundary[at] && !malformed && !ended) {
				t.Fatalf("after %d bytes: at boundary %v", at, framer.AtBoundary())
			}
		}
	})
}

// boundaries reads the stream packet by packet, according to MQTT 5.0 section 1.5.5, up to a
// DISCONNECT, a CONNECT, an AUTH or a length that is too long. It returns where packets end, where the
// last one ends, and the offset after the first byte that is too many, or after the DISCONNECT,
// or 0.
func boundaries(stream []byte) (at map[int]bool, whole, lost, end int) {
	at = map[int]bool{0: true}
	for pos := 0; pos < len(stream); whole = pos {
		length, shift, kind := 0, 0, Type(stream[pos]>>4)
		if kind == CONNECT || kind == AUTH {
			return at, whole, pos + 1, 0
		}
		for pos++; ; pos++ {
			if pos >= len(stream) {
				return at, whole, 0, 0
			}
			length |= int(stream[pos]&0x7F) << shift
			if shift += 7; stream[pos] < 0x80 {
				break
			}
			if shift == 28 {
				return at, whole, pos + 1, 0
			}
		}
		pos += 1 + length
		at[pos] = true
		if kind == DISCONNECT && pos <= len(stream) {
			return at, whole, 0, pos
		}
	}
	return at, whole, 0, 0
}
