package packets

import (
	"errors"
	"strings"
	"testing"
	"unsafe"
)

func TestFramer(t *testing.T) {
	stream := string(connect(4, 2, field("id"))) + string(packet(0xC0)) + string(packet(0x30, field("t"))) +
		string(packet(0x30, field("t"), strings.Repeat("p", 200))) + string(packet(0x30, field("t"), strings.Repeat("p", 20000))) +
		string(packet(0xD0)) + string(packet(0xE0, "\x98"))
	// The boundaries by reading one packet at a time.
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
			if err := f.Advance([]byte(stream[at : at+n])); err != nil {
				t.Fatal(err)
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
		{"\x30\x82\x00", 2},         // longer than needed, and the same to all readers
		{"\x30\x80\x80\x80\x00", 0}, // likewise
	} {
		var f Framer
		if err := f.Advance([]byte(test.head)); err != nil {
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
		if err := f.Advance([]byte{c}); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for _, b := range []string{"\xFF", "\x01", "", "\xC0\x00"} {
		if err := f.Advance([]byte(b)); !errors.As(err, new(*MalformedError)) || f.AtBoundary() {
			t.Errorf("after %x: %v, at boundary %v", b, err, f.AtBoundary())
		}
	}
}

func TestFramerForbids(t *testing.T) {
	second := connect(4, 2, field("id"))
	ping := packet(0xC0)
	for _, stream := range []string{string(second), string(ping) + string(second), string(ping) + string(ping) + string(second)} {
		for _, chunk := range []int{1, 3, len(stream)} {
			f := Framer{Forbidden: CONNECT}
			err := advance(&f, stream, chunk)
			var malformed *MalformedError
			if !errors.As(err, &malformed) || malformed.Rule != "MQTT-3.1.0-2" || malformed.Type != CONNECT {
				t.Errorf("%x in chunks of %d: error %v", stream, chunk, err)
			}
			if f.AtBoundary() || f.Advance(ping) == nil || f.Advance(nil) == nil {
				t.Errorf("%x in chunks of %d: the stream goes on", stream, chunk)
			}
		}
	}
	f := Framer{Forbidden: CONNECT}
	if err := advance(&f, string(packet(0x30, field("t"), string(second))), 5); err != nil {
		t.Errorf("a payload that looks like a CONNECT: %v", err)
	}
}

// advance gives stream to f in chunks until one is refused.
func advance(f *Framer, stream string, chunk int) error {
	for len(stream) > 0 {
		n := min(chunk, len(stream))
		if err := f.Advance([]byte(stream[:n])); err != nil {
			return err
		}
		stream = stream[n:]
	}
	return nil
}

func TestFramerSkip(t *testing.T) {
	var f Framer
	whole := append([]byte{0x30, 0xE8, 0x07}, make([]byte, 1000)...)
	if err := f.Advance(whole[:2]); err != nil || f.Left() != 0 {
		t.Fatalf("inside of the header: left %d, %v", f.Left(), err)
	}
	if err := f.Advance(whole[2:100]); err != nil || f.Left() != 903 {
		t.Fatalf("left %d, %v; want 903", f.Left(), err)
	}
	f.Skip(900)
	if f.Left() != 3 || f.AtBoundary() {
		t.Errorf("left %d, at boundary %v; want 3 and not", f.Left(), f.AtBoundary())
	}
	f.Skip(3)
	if f.Left() != 0 || !f.AtBoundary() {
		t.Errorf("left %d, at boundary %v; want 0 and yes", f.Left(), f.AtBoundary())
	}
	f.Skip(1)
	if !f.AtBoundary() {
		t.Error("skipping more than there is has moved the boundary")
	}
}
