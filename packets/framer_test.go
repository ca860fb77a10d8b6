package packets

import (
	"errors"
	"io"
	"strings"
	"testing"
	"unsafe"
)

func TestFramer(t *testing.T) {
	stream := string(connect(4, 2, field("id"))) + string(packet(0xC0)) + string(packet(0x30, field("t"))) +
		string(packet(0x30, field("t"), strings.Repeat("p", 200))) + string(packet(0x30, field("t"), strings.Repeat("p", 20000))) +
		string(packet(0xD0))
	// The boundaries, found by reading one packet at a time.
	boundary := map[int]bool{0: true}
	for at := 0; at < len(stream); {
		size, err := PacketSize([]byte(stream[at:]), 0)
		if err != nil {
			t.Fatal(err)
		}
		at += size
		boundary[at] = true
	}
	for _, chunk := range []int{1, 2, 3, 7, 100, 4096, len(stream)} {
		var f Framer
		for at := 0; at < len(stream); {
			if f.AtBoundary() != boundary[at] {
				t.Fatalf("chunks of %d: at boundary %d is %v", chunk, at, f.AtBoundary())
			}
			n := min(chunk, len(stream)-at)
			if got, err := f.Advance([]byte(stream[at : at+n])); got != n || err != nil {
				t.Fatalf("%d of %d bytes, %v", got, n, err)
			}
			at += n
		}
		if !f.AtBoundary() {
			t.Errorf("chunks of %d: no boundary at the end", chunk)
		}
	}
}

func TestFramerLengths(t *testing.T) {
	for _, test := range []struct {
		head string
		left int
	}{
		{"\x30\x7F", 127},
		{"\x30\x80\x01", 128},
		{"\x30\xFF\xFF\xFF\x7F", maxRemaining},
		{"\x30\x82\x00", 2},         // longer than needed, but unambiguous
		{"\x30\x80\x80\x80\x00", 0}, // likewise
	} {
		var f Framer
		if _, err := f.Advance([]byte(test.head)); err != nil {
			t.Fatalf("%x: %v", test.head, err)
		}
		if int(f.left) != test.left || f.AtBoundary() != (test.left == 0) {
			t.Errorf("%x: %d bytes left, want %d", test.head, f.left, test.left)
		}
	}
	if size := unsafe.Sizeof(Framer{}); size > 8 {
		t.Errorf("a Framer takes %d bytes", size)
	}
}

func TestFramerLost(t *testing.T) {
	var f Framer
	for i, c := range []byte("\x30\xFF\xFF\xFF") {
		if _, err := f.Advance([]byte{c}); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for _, b := range []string{"\xFF", "\x01", "", "\xC0\x00"} {
		if n, err := f.Advance([]byte(b)); n != 0 || !errors.As(err, new(*MalformedError)) || f.AtBoundary() {
			t.Errorf("after %x: %d bytes, %v, at boundary %v", b, n, err, f.AtBoundary())
		}
	}
}

func TestFramerForbids(t *testing.T) {
	second := connect(4, 2, field("id"))
	ping := packet(0xC0)
	for _, stream := range []string{string(second), string(ping) + string(second), string(ping) + string(ping) + string(second)} {
		for _, chunk := range []int{1, 3, len(stream)} {
			f := Framer{Forbidden: ForbidCONNECT}
			n, err := advance(&f, stream, chunk)
			if want := len(stream) - len(second); n != want {
				t.Errorf("%x in chunks of %d: %d bytes count, want %d", stream, chunk, n, want)
			}
			var malformed *MalformedError
			if !errors.As(err, &malformed) || malformed.Rule != "MQTT-3.1.0-2" || malformed.Type != CONNECT {
				t.Errorf("%x in chunks of %d: error %v", stream, chunk, err)
			}
			for _, more := range [][]byte{ping, nil} {
				if n, err := f.Advance(more); f.AtBoundary() || n != 0 || err == nil {
					t.Errorf("%x in chunks of %d: the stream goes on", stream, chunk)
				}
			}
		}
	}
	f := Framer{Forbidden: ForbidCONNECT}
	if _, err := advance(&f, string(packet(0x30, field("t"), string(second))), 5); err != nil {
		t.Errorf("a payload that looks like a CONNECT: %v", err)
	}
}

// advance passes stream to f in chunks until one is refused, and returns how many bytes were
// accepted.
func advance(f *Framer, stream string, chunk int) (taken int, err error) {
	for len(stream) > 0 && err == nil {
		n := min(chunk, len(stream))
		var m int
		m, err = f.Advance([]byte(stream[:n]))
		taken, stream = taken+m, stream[n:]
	}
	return taken, err
}

// TestFramerEndsWithDisconnect: bytes after a DISCONNECT do not belong to the stream.
func TestFramerEndsWithDisconnect(t *testing.T) {
	for _, disconnect := range []string{"\xE0\x00", "\xE0\x80\x00", "\xE0\x02\x04\x00", "\xE0\x80\x01" + strings.Repeat("x", 128)} {
		for _, rest := range []string{"", "\xC0\x00", "\x30\xFF\xFF\xFF\xFF", "\xE0\x00"} {
			before := string(packet(0xC0)) + string(packet(0x30, field("t")))
			stream := before + disconnect + rest
			for _, chunk := range []int{1, 2, 3, 5, len(stream)} {
				var f Framer
				if n, err := advance(&f, stream, chunk); n != len(stream)-len(rest) || err != io.EOF || f.AtBoundary() {
					t.Errorf("%x in chunks of %d: %d bytes, %v, at boundary %v", stream, chunk, n, err, f.AtBoundary())
				}
				if n, err := f.Advance([]byte("\xC0\x00")); n != 0 || err != io.EOF || f.Remaining() != 0 {
					t.Errorf("%x in chunks of %d: then %d bytes, %v, left %d", stream, chunk, n, err, f.Remaining())
				}
			}
		}
	}
}

// TestFramerKeepsWholePackets: the packets before a malformed one count.
func TestFramerKeepsWholePackets(t *testing.T) {
	whole := string(packet(0xC0)) + string(packet(0x30, field("t"), "payload"))
	for _, bad := range []string{"\x30\x80\x80\x80\x80\x01", string(connect(4, 2, field("id")))} {
		f := Framer{Forbidden: ForbidCONNECT}
		if n, err := f.Advance([]byte(whole + bad)); n != len(whole) || !errors.As(err, new(*MalformedError)) {
			t.Errorf("%x: %d bytes, %v, want %d", bad, n, err, len(whole))
		}
	}
}

func TestFramerRefusal(t *testing.T) {
	for _, c := range []struct {
		stream string
		level  byte
		want   string
	}{
		{"\x30\x80\x80\x80\x80\x01", 5, "\xE0\x01\x81"},
		{"\x10", 5, "\xE0\x01\x82"},
		{"\x10", 4, ""},
		{"\xE0\x00", 5, ""},
	} {
		f := Framer{Forbidden: ForbidCONNECT, Level: c.level}
		_, err := f.Advance([]byte(c.stream))
		if got := string(f.Refusal(err)); got != c.want {
			t.Errorf("%x at level %d: %v is reported as %x, want %x", c.stream, c.level, err, got, c.want)
		}
	}
}

func TestFramerSkip(t *testing.T) {
	var f Framer
	whole := append([]byte{0x30, 0xE8, 0x07}, make([]byte, 1000)...)
	if _, err := f.Advance(whole[:2]); err != nil || f.Remaining() != 0 {
		t.Fatalf("inside of the header: left %d, %v", f.Remaining(), err)
	}
	if _, err := f.Advance(whole[2:100]); err != nil || f.Remaining() != 903 {
		t.Fatalf("left %d, %v; want 903", f.Remaining(), err)
	}
	f.Skip(900)
	if f.Remaining() != 3 || f.AtBoundary() {
		t.Errorf("left %d, at boundary %v; want 3 and not", f.Remaining(), f.AtBoundary())
	}
	f.Skip(3)
	if f.Remaining() != 0 || !f.AtBoundary() {
		t.Errorf("left %d, at boundary %v; want 0 and yes", f.Remaining(), f.AtBoundary())
	}
	f.Skip(1)
	if !f.AtBoundary() {
		t.Error("skipping more than there is has moved the boundary")
	}
}
