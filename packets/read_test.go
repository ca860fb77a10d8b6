package packets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// connects returns valid packets of every level, smaller and larger than the first buffer.
func connects() [][]byte {
	long := func(n int) string { return field(strings.Repeat("a", n)) }
	return [][]byte{
		connect(4, 2, field("")),
		connect(3, 2, field("")),
		connect(5, 2, props(), field("")),
		connect(4, 0x82, field("id"), field(strings.Repeat("t", 40))),
		connect(4, 0xC2, long(110), field("u"), field("p")),
		connect(4, 2, long(smallPacket-17)), // 256 bytes
		connect(4, 2, long(smallPacket-16)),
		connect(4, 6, field("id"), field("w"), long(20000)),
		connect(5, 0xC6, props(pairOf("n", strings.Repeat("v", 300))), field("id"), props(), field("w"), long(9), field("u"), long(65535)),
	}
}

func TestReadConnectLeavesTheRest(t *testing.T) {
	const next = "\xC0\x00 and more"
	for _, raw := range connects() {
		t.Run(fmt.Sprint(len(raw)), func(t *testing.T) {
			want := mustConnect(t, raw).Append(nil)
			for name, wrap := range map[string]func(io.Reader) io.Reader{
				"at once":  func(r io.Reader) io.Reader { return r },
				"by byte":  iotest.OneByteReader,
				"by half":  iotest.HalfReader,
				"with EOF": iotest.DataErrReader,
			} {
				r := strings.NewReader(string(raw) + next)
				c, err := ReadConnect(wrap(r), len(raw))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if got := c.Append(nil); !bytes.Equal(got, want) || !bytes.Equal(got, raw) {
					t.Errorf("%s: wrote %x, want %x", name, got, raw)
				}
				if rest, _ := io.ReadAll(r); name != "with EOF" && string(rest) != next {
					t.Errorf("%s: left %q, want %q", name, rest, next)
				}
			}
		})
	}
}

// countingReader counts the calls and the bytes.
type countingReader struct {
	r            io.Reader
	calls, bytes int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.calls++
	c.bytes += n
	return n, err
}

func TestReadConnectCallsReadTwice(t *testing.T) {
	for _, raw := range connects() {
		r := &countingReader{r: bytes.NewReader(raw)}
		if _, err := ReadConnect(r, len(raw)); err != nil {
			t.Fatal(err)
		}
		if want := min(2, len(raw)-connectHead+1); r.calls != want {
			t.Errorf("%d bytes took %d reads, want %d", len(raw), r.calls, want)
		}
	}
}

// A packet that is no CONNECT is refused on its first byte, even if no second byte arrives.
func TestReadConnectNotConnect(t *testing.T) {
	for _, test := range []struct{ name, sent, want string }{
		{"HTTP", "GET / HTTP/1.1\r\n", "looks like HTTP"},
		{"TLS", "\x16\x03\x01\x02\x00", "looks like TLS"},
		{"PUBLISH", "\x30\x03\x00\x01t", "looks like PUBLISH"},
		{"PROXY 1", "PROXY TCP4", "a PROXY protocol header"},
		{"PROXY 2", "\r\n\r\n\x00", "looks like a PROXY protocol header"},
		{"zero", "\x00", "looks like nothing known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			blocked := iotest.ErrReader(errors.New("a second read"))
			_, err := ReadConnect(io.MultiReader(strings.NewReader(test.sent[:1]), blocked), 1<<10)
			if !errors.Is(err, ErrNotConnect) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want ErrNotConnect that %s", err, test.want)
			}
		})
	}
}

func TestReadConnectProtocolLevel(t *testing.T) {
	for _, test := range []struct {
		raw  []byte
		want ProtocolLevelError
	}{
		{connect(6, 2, field("")), ProtocolLevelError{"MQTT", 6}},
		{connect(0, 2, field("")), ProtocolLevelError{"MQTT", 0}},
		{connect(0x7F|bridgeBit, 2, field("")), ProtocolLevelError{"MQTT", 0x7F}},
		{packet(0x10, "\x00\x06MQIsdp\x04\x02\x00\x3C\x00\x00"), ProtocolLevelError{"MQIsdp", 4}},
		{packet(0x10, "\x00\x04MQTT\x03\x02\x00\x3C\x00\x00"), ProtocolLevelError{"MQTT", 3}},
		{packet(0x10, "\x00\x04AMQP\x04\x02\x00\x3C\x00\x00"), ProtocolLevelError{}},
		{packet(0x10, "\x00\x05MQTT5\x05\x02\x00\x3C\x00\x00"), ProtocolLevelError{}},
		{[]byte("\x10\xFF\x7F\xFF\xFF__________"), ProtocolLevelError{}},
	} {
		_, err := parseConnect(test.raw)
		got := new(ProtocolLevelError)
		if !errors.As(err, &got) || *got != test.want {
			t.Errorf("%x: error is %v, want %v", test.raw, err, &test.want)
		}
	}
}

func TestReadConnectTooLarge(t *testing.T) {
	id := field(strings.Repeat("x", 1000))
	for _, test := range []struct {
		raw   []byte
		level byte
	}{
		{connect(3, 2, id), 3},
		{connect(4|bridgeBit, 2, id), 4},
		{connect(5, 2, props(), id), 5},
		{[]byte("\x10\xFF\xFF\xFF\x7F\x00\x06MQIsdp\x03"), 3}, // all 14 bytes are needed
	} {
		r := &countingReader{r: iotest.OneByteReader(bytes.NewReader(test.raw))}
		_, err := ReadConnect(r, 500)
		tooLarge := new(TooLargeError)
		if !errors.As(err, &tooLarge) || tooLarge.Level != test.level || tooLarge.Max != 500 {
			t.Errorf("error is %#v, want a TooLargeError of level %d", err, test.level)
		}
		if r.bytes > connectHead {
			t.Errorf("read %d bytes", r.bytes)
		}
	}
	raw := connect(4, 2, id)
	if _, err := ReadConnect(bytes.NewReader(raw), len(raw)-1); !errors.As(err, new(*TooLargeError)) {
		t.Errorf("one byte over the limit: %v", err)
	}
	_, err := ReadConnect(bytes.NewReader(connect(6, 2, id)), 500)
	if level := new(ProtocolLevelError); !errors.As(err, &level) || level.Level != 6 {
		t.Errorf("too large and of level 6: %v", err)
	}
}

func TestReadConnectCutOff(t *testing.T) {
	raw := connect(4, 0x82, field("id"), field(strings.Repeat("t", 300)))
	broken := errors.New("connection reset")
	for n := range raw {
		_, err := ReadConnect(bytes.NewReader(raw[:n]), 1<<10)
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if err != want {
			t.Fatalf("after %d bytes: %v, want %v", n, err, want)
		}
		_, err = ReadConnect(io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(broken)), 1<<10)
		if err != broken {
			t.Fatalf("after %d bytes: %v, want %v", n, err, broken)
		}
	}
}

// A packet that is too short to be valid is refused as soon as it is complete, without waiting
// for the 14 bytes of a valid one.
func TestReadConnectShort(t *testing.T) {
	raw := packet(0x10, "\x00\x04MQTT\x05\x02\x00\x3C")
	_, err := ReadConnect(io.MultiReader(bytes.NewReader(raw), iotest.ErrReader(errors.New("a read too many"))), 1<<10)
	wantRule(t, err, "MQTT-2.2.2-1")
}

func TestErrorsNameNoContent(t *testing.T) {
	const secret = "s3cr3t"
	for _, raw := range [][]byte{
		connect(4, 2, field(secret+"\xFF")),
		connect(4, 2, field("id"), field(secret)),
		connect(5, 2, props(text(AuthenticationMethod, secret+"\x00")), field("")),
		packet(0x10, "\x00\x06"+secret+"\x04\x02\x00\x3C\x00\x00"),
		[]byte(secret),
	} {
		_, err := parseConnect(raw)
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
			t.Errorf("%x: %v", raw, err)
		}
	}
}

func TestReadPacket(t *testing.T) {
	for _, raw := range [][]byte{
		packet(0x20, "\x00\x00"),
		packet(0xD0),
		packet(0x40, "\x00\x01"),
		packet(0x20, "\x00\x00", props(text(ReasonString, strings.Repeat("r", 50)))),
		packet(0x30, strings.Repeat("p", 127)),
		packet(0x30, strings.Repeat("p", 20000)),
		packet(0x30, strings.Repeat("p", 3<<20)),
	} {
		r := bytes.NewReader(append(raw, "next"...))
		got, err := ReadPacket(r, len(raw))
		if err != nil || !bytes.Equal(got, raw) || r.Len() != len("next") {
			t.Errorf("%d bytes: got %d, left %d, %v", len(raw), len(got), r.Len(), err)
		}
		tooLarge := new(TooLargeError)
		if _, err := ReadPacket(bytes.NewReader(raw), len(raw)-1); !errors.As(err, &tooLarge) || tooLarge.Size != len(raw) {
			t.Errorf("%d bytes over the limit: %v", len(raw), err)
		}
		for n := range min(len(raw), 300) {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if _, err := ReadPacket(bytes.NewReader(raw[:n]), len(raw)); err != want {
				t.Fatalf("after %d of %d bytes: %v, want %v", n, len(raw), err, want)
			}
		}
	}
	_, err := ReadPacket(strings.NewReader("\x20\x80\x80\x80\x80\x01"), 1<<10)
	wantRule(t, err, "section 2.2.3")
	if raw, err := ReadPacket(strings.NewReader("\x20\x82\x00\x00\x00"), 1<<10); err != nil || len(raw) != 5 {
		t.Errorf("a length that is longer than needed: got %x, %v", raw, err)
	}
}
