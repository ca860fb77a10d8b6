package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame returns a masked frame as a client sends it.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := []byte{0x11, 0xF2, 0x33, 0xC4}
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// pipe is a connection that reads the bytes of a test and keeps what is written.
type pipe struct {
	net.Conn
	r       io.Reader
	written bytes.Buffer
}

func (p *pipe) Read(b []byte) (int, error)  { return p.r.Read(b) }
func (p *pipe) Write(b []byte) (int, error) { return p.written.Write(b) }

func newConn(r io.Reader) (*Conn, *pipe) {
	p := &pipe{r: r}
	return &Conn{Conn: p, buffers: new(bufferPool)}, p
}

func closeFrame(code int) string {
	return string([]byte{0x88, 2, byte(code >> 8), byte(code)})
}

func TestRead(t *testing.T) {
	long, longer := strings.Repeat("x", 70_000), strings.Repeat("y", 300)
	for _, tt := range []struct {
		name     string
		frames   []byte
		want     string
		answered string
		code     int // of the FrameError; 0 means a normal end
	}{
		{name: "one message", frames: frame(0x82, "abc"), want: "abc"},
		{name: "lengths of every form", frames: join(frame(0x82, longer), frame(0x82, long), frame(0x82, strings.Repeat("z", 125)), frame(0x82, strings.Repeat("z", 126))), want: longer + long + strings.Repeat("z", 251)},
		{name: "a message in parts", frames: join(frame(0x02, "a"), frame(0x00, "bc"), frame(0x80, "")), want: "abc"},
		{name: "a ping within a message", frames: join(frame(0x02, "a"), frame(0x89, "hello"), frame(0x80, "b")), want: "ab", answered: "\x8a\x05hello"},
		{name: "an empty ping", frames: frame(0x89, ""), answered: "\x8a\x00"},
		{name: "an unsolicited pong", frames: join(frame(0x8A, "x"), frame(0x82, "a")), want: "a"},
		{name: "an empty message", frames: join(frame(0x82, ""), frame(0x82, "a")), want: "a"},
		{name: "close", frames: join(frame(0x82, "a"), frame(0x88, "\x03\xe9gone"), frame(0x82, "b")), want: "a", answered: closeFrame(1001)},
		{name: "close without a code", frames: frame(0x88, ""), answered: closeFrame(1000)},
		{name: "close with a code of its own", frames: frame(0x88, "\x0f\xa0"), answered: closeFrame(4000)},

		{name: "text", frames: join(frame(0x82, "a"), frame(0x81, "abc")), want: "a", code: 1003},
		{name: "no mask", frames: []byte{0x82, 1, 'a'}, code: 1002},
		{name: "reserved bit", frames: frame(0xC2, "a"), code: 1002},
		{name: "unknown opcode", frames: frame(0x83, "a"), code: 1002},
		{name: "unknown control opcode", frames: frame(0x8B, "a"), code: 1002},
		{name: "continuation of nothing", frames: frame(0x80, "a"), code: 1002},
		{name: "message within a message", frames: join(frame(0x02, "a"), frame(0x82, "b")), want: "a", code: 1002},
		{name: "control frame in parts", frames: frame(0x09, "a"), code: 1002},
		{name: "control frame too long", frames: frame(0x89, strings.Repeat("x", 126)), code: 1002},
		{name: "length of 16 bits for a few bytes", frames: []byte{0x82, 0x80 | 126, 0, 125, 0, 0, 0, 0}, code: 1002},
		{name: "length of 64 bits for a few bytes", frames: []byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0}, code: 1002},
		{name: "message too big", frames: []byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0x10, 0, 0, 5, 0, 0, 0, 0}, code: 1009},
		{name: "length over all bounds", frames: []byte{0x82, 0x80 | 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, code: 1009},
		{name: "message too big in parts", frames: join(frame(0x02, "a"), []byte{0x00, 0x80 | 127, 0, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0, 0}), want: "a", code: 1009},
		{name: "close of one byte", frames: frame(0x88, "a"), code: 1002},
		{name: "close with a code that must not be sent", frames: frame(0x88, "\x03\xed"), code: 1002},
		{name: "close with a reason that is no text", frames: frame(0x88, "\x03\xe8\xff"), code: 1007},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{"at once": bytes.NewReader(tt.frames), "byte by byte": iotest.OneByteReader(bytes.NewReader(tt.frames))} {
				c, p := newConn(r)
				got, err := io.ReadAll(c)
				var refused *FrameError
				if code := 0; string(got) != tt.want || errors.As(err, &refused) != (tt.code != 0) {
					t.Errorf("%s: %.40q, %v; want %.40q and code %d", name, got, err, tt.want, tt.code)
				} else if refused != nil {
					if code = refused.Code; code != tt.code {
						t.Errorf("%s: %v, want code %d", name, err, tt.code)
					}
					tt.answered = closeFrame(tt.code)
				}
				if p.written.String() != tt.answered {
					t.Errorf("%s: answered % x, want % x", name, p.written.String(), tt.answered)
				}
				if _, again := c.Read(make([]byte, 1)); tt.code != 0 && again != err {
					t.Errorf("%s: the next read says %v", name, again)
				}
			}
		})
	}
}

// TestInterruptedReadLosesNothing interrupts the read at every byte.
func TestInterruptedReadLosesNothing(t *testing.T) {
	raw := join(frame(0x02, "abc"), frame(0x89, "ping"), frame(0x80, strings.Repeat("d", 200)), frame(0x82, "e"))
	c, p := newConn(nil)
	var got []byte
	for i := range raw {
		p.r = iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(raw[i : i+1])))
		b := make([]byte, 64)
		for {
			n, err := c.Read(b)
			got = append(got, b[:n]...)
			if errors.Is(err, iotest.ErrTimeout) || errors.Is(err, io.EOF) {
				break
			}
		}
	}
	if want := "abc" + strings.Repeat("d", 200) + "e"; string(got) != want || p.written.String() != "\x8a\x04ping" {
		t.Errorf("%q, answered %q", got, p.written.String())
	}
}

func TestWrite(t *testing.T) {
	for size, head := range map[int]string{
		1: "\x82\x01", 125: "\x82\x7d", 126: "\x82\x7e\x00\x7e", 65535: "\x82\x7e\xff\xff", 65536: "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
	} {
		c, p := newConn(nil)
		payload := strings.Repeat("p", size)
		if n, err := c.Write([]byte(payload)); n != size || err != nil || p.written.String() != head+payload {
			t.Errorf("%d bytes: %d, %v, frame % .12x", size, n, err, p.written.Bytes())
		}
	}
	c, p := newConn(nil)
	if n, err := c.Write(nil); n != 0 || err != nil || p.written.Len() > 0 {
		t.Errorf("nothing: %d, %v, % x", n, err, p.written.Bytes())
	}
}

func TestCloseWrite(t *testing.T) {
	c, p := newConn(bytes.NewReader(join(frame(0x89, "late"), frame(0x82, "data"), frame(0x88, "\x03\xe9"))))
	c.SetCloseCode(GoingAway)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write afterwards: %v", err)
	}
	// Data that the client still sends arrives. Its Close frame ends reading and is not
	// answered.
	if got, err := io.ReadAll(c); string(got) != "data" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := c.CloseWrite(); err != nil || p.written.String() != closeFrame(GoingAway) {
		t.Errorf("%v, written % x", err, p.written.Bytes())
	}
}

func TestFloodOfEmptyFrames(t *testing.T) {
	for name, one := range map[string][]byte{"ping": frame(0x89, "x"), "pong": frame(0x8A, ""), "data": frame(0x82, "")} {
		c, _ := newConn(bytes.NewReader(bytes.Repeat(one, idleBurst+1)))
		var refused *FrameError
		if _, err := io.ReadAll(c); !errors.As(err, &refused) || refused.Code != PolicyViolation {
			t.Errorf("%s: %v", name, err)
		}
		c, _ = newConn(bytes.NewReader(bytes.Repeat(join(one, frame(0x82, "d")), 10*idleBurst)))
		if got, err := io.ReadAll(c); len(got) != 10*idleBurst || err != nil {
			t.Errorf("%s with data between: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestSlowPingsAreNoFlood: a client without data may send pings forever.
func TestSlowPingsAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := &Conn{Conn: theirs, buffers: new(bufferPool)}
		go func() {
			defer ours.Close()
			for range 3 * idleBurst {
				ours.Write(frame(0x89, ""))
				io.ReadFull(ours, make([]byte, 2))
				<-time.After(time.Second)
			}
		}()
		if got, err := io.ReadAll(c); len(got) != 0 || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestDeadlineLeavesTheConnectionGood: the relay interrupts reads with a deadline.
func TestDeadlineLeavesTheConnectionGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		c := &Conn{Conn: theirs, buffers: new(bufferPool)}
		raw := frame(0x82, "abc")
		go ours.Write(raw[:5])
		c.SetReadDeadline(time.Now().Add(time.Second))
		b := make([]byte, 8)
		if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Time{})
		go ours.Write(raw[5:])
		if n, err := c.Read(b); string(b[:n]) != "abc" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
	})
}

// FuzzDecode: the result does not depend on how the bytes are split.
func FuzzDecode(f *testing.F) {
	f.Add(join(frame(0x02, "a"), frame(0x89, "p"), frame(0x80, strings.Repeat("b", 200)), frame(0x88, "\x03\xe8")), uint64(1))
	f.Add(frame(0x81, "text"), uint64(2))
	f.Add([]byte{0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 5}, uint64(3))
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64) {
		whole, p1 := newConn(bytes.NewReader(raw))
		want, wantErr := io.ReadAll(whole)
		cut, p2 := newConn(&randomReader{raw, rand.New(rand.NewPCG(seed, 0))})
		got, err := io.ReadAll(cut)
		if !bytes.Equal(got, want) || (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() || p1.written.String() != p2.written.String() {
			t.Errorf("%q, %v, answered %q; in parts %q, %v, answered %q", want, wantErr, p1.written.String(), got, err, p2.written.String())
		}
		if len(want) > len(raw) {
			t.Errorf("%d bytes of %d", len(want), len(raw))
		}
	})
}

// randomReader returns its bytes in parts of random size.
type randomReader struct {
	b []byte
	r *rand.Rand
}

func (r *randomReader) Read(b []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 1+r.r.IntN(9))], r.b)
	r.b = r.b[n:]
	return n, nil
}

func BenchmarkRead(b *testing.B) {
	for name, raw := range map[string][]byte{"100 bytes": bytes.Repeat(frame(0x82, strings.Repeat("x", 100)), 300), "16 KiB": bytes.Repeat(frame(0x82, strings.Repeat("x", 16<<10)), 2)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			c, p := newConn(nil)
			buf := make([]byte, 64<<10)
			r := bytes.NewReader(raw)
			p.r = r
			for b.Loop() {
				r.Reset(raw)
				if _, err := c.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
