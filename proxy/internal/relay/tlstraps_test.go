package relay

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rawRig is a rig one end of which, on that side, makes its TLS records itself. The
// far one is plain.
type rawRig struct {
	*rig
	side Side
	raw  *rawTLS
	far  net.Conn
}

func eachRaw(t *testing.T, f func(t *testing.T, r *rawRig)) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, side := range []Side{Client, Upstream} {
			t.Run(side.String(), func(t *testing.T) {
				r := &rawRig{rig: &rig{TB: t, pump: patient(newPump())}, side: side}
				var ours *tls.Conn
				r.raw, ours = newRawTLS(t, side == Client)
				for _, c := range []net.Conn{r.raw.Conn, ours.NetConn().(*Socket).Conn} {
					_ = c.(*net.TCPConn).SetReadBuffer(8 << 10) // or a flood takes long
					_ = c.(*net.TCPConn).SetWriteBuffer(8 << 10)
				}
				r.far = r.connect(side, ours)
				r.start()
				f(t, r)
			})
		}
	})
}

// connect makes ours one end of the pair and returns the peer of the other, which is
// plain.
func (r *rig) connect(side Side, ours net.Conn) (far net.Conn) {
	far, other := tcpPair(r.TB)
	r.pair.Client, r.pair.Upstream = NewStack(ours), NewStack(other)
	if side == Upstream {
		r.pair.Client, r.pair.Upstream = NewStack(other), NewStack(ours)
	}
	return far
}

// from returns how many bytes of that side were passed on.
func (r Result) from(side Side) int64 {
	if side == Client {
		return r.Up
	}
	return r.Down
}

// bothWays checks that the pair is still whole.
func (r *rawRig) bothWays(label string) {
	r.Helper()
	r.raw.sendRaw(r.raw.data("there " + label))
	r.expect(r.far, "there "+label)
	r.send(r.far, []byte("back "+label))
	if got, err := r.raw.receive(); got != "back "+label {
		r.Fatalf("got %q, %v", got, err)
	}
}

// The relay depends on this: crypto/tls continues after a temporary read error, EAGAIN is such an
// error, and crypto/tls returns it unchanged.
func TestTemporaryReadErrorsAreNotLatched(t *testing.T) {
	if e := net.Error(syscall.EAGAIN); !e.Temporary() { //nolint:staticcheck // Temporary is what crypto/tls asks
		t.Fatal("EAGAIN is not temporary")
	}
	a, b := tcpPair(t)
	flaky := &flakyConn{Conn: b}
	client := tls.Client(a, &tls.Config{InsecureSkipVerify: true})
	server := tls.Server(flaky, &tls.Config{Certificates: []tls.Certificate{certificate()}})
	go client.Handshake()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	flaky.flaky = true
	buf := make([]byte, 10)
	misses := 0
	for {
		n, err := server.Read(buf)
		if err == syscall.EAGAIN {
			misses++
			continue
		}
		if err != nil || string(buf[:n]) != "hello" {
			t.Fatalf("read %q, %v after %d misses", buf[:n], err, misses)
		}
		break
	}
	if misses < 10 {
		t.Errorf("%d misses: the connection was not as flaky as the test needs", misses)
	}
}

// flakyConn gives one byte at a time and EAGAIN before each.
type flakyConn struct {
	net.Conn
	flaky, now bool
}

func (c *flakyConn) Read(b []byte) (int, error) {
	if !c.flaky {
		return c.Conn.Read(b)
	}
	if c.now = !c.now; c.now {
		return 0, syscall.EAGAIN
	}
	return c.Conn.Read(b[:1])
}

func TestRecordsByteByByte(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		_ = r.raw.Conn.(*net.TCPConn).SetNoDelay(true)
		for i := range 5 {
			text := fmt.Sprintf("message %d", i)
			for _, b := range r.raw.data(text) {
				r.raw.sendRaw([]byte{b})
				runtime.Gosched() // a wake-up of its own, mostly
			}
			r.expect(r.far, text)
		}
		r.bothWays("after")
	})
}

func TestKeyUpdatesSplitAnywhere(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		for i := range 200 {
			text := fmt.Sprintf("<%d>", i)
			stream := append(r.raw.keyUpdate(i%2 == 0, 5), r.raw.data(text)...)
			r.raw.dribble(stream, 1+i%len(stream))
			r.expect(r.far, text)
		}
		r.bothWays("after")
	})
}

func TestKeyUpdateFragmentedOverRecords(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		for i := 1; i <= 4; i++ {
			for _, b := range r.raw.keyUpdate(true, i) {
				r.raw.sendRaw([]byte{b})
				runtime.Gosched()
			}
			r.bothWays(fmt.Sprint(i))
		}
	})
}

func TestHalfCloseNotify(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		alert := append(r.raw.data("bye"), r.raw.closeNotify()...)
		r.raw.sendRaw(alert[:len(alert)-9])
		r.expect(r.far, "bye")
		r.raw.sendRaw(alert[len(alert)-9:])
		r.expectEnd(r.far, "")
		r.far.Close()
		if got := r.end(); got.By != r.side || got.Err != nil {
			t.Errorf("result %+v, want an orderly end", got)
		}
	})
}

func TestCloseInsideRecord(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		stream := append(r.raw.data("whole"), r.raw.data("torn off")...)
		r.raw.sendRaw(stream[:len(stream)-3])
		r.raw.Close()
		r.expectEnd(r.far, "whole")
		r.far.Close()
		if got := r.end(); got.By != r.side || got.Err != nil || got.from(r.side) != 5 {
			t.Errorf("result %+v, want an orderly end after 5 bytes", got)
		}
	})
}

func TestEmptyRecords(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		for i := range 20 {
			for range 10 {
				r.raw.sendRaw(r.raw.data(""))
			}
			r.bothWays(fmt.Sprint(i))
		}
	})
}

func TestEmptyRecordFloodEndsPair(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		var flood []byte
		for range 40 {
			flood = append(flood, r.raw.data("")...)
		}
		r.raw.sendRaw(flood)
		r.expectEnd(r.far, "")
		r.far.Close()
		r.raw.Close()
		if got := r.end(); got.By != r.side || got.Err == nil {
			t.Errorf("result %+v, want a fault", got)
		}
	})
}

func TestCorruptRecord(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		stream := r.raw.data("good")
		bad := r.raw.data("bad")
		bad[len(bad)-1] ^= 1
		r.raw.sendRaw(append(stream, bad...))
		r.expectEnd(r.far, "good")
		r.far.Close()
		r.raw.Close()
		if got := r.end(); got.By != r.side || got.Err == nil || !strings.Contains(got.Err.Error(), "bad record MAC") {
			t.Errorf("result %+v, want a bad record", got)
		}
	})
}

// A peer that asks for key updates and never reads the answers stops being read
// itself, so that nothing piles up: all that it can send goes into the buffers of the
// sockets.
func TestKeyUpdateFlood(t *testing.T) {
	eachRaw(t, func(t *testing.T, r *rawRig) {
		const limit = 1 << 20
		sent := 0
		for sent < limit {
			_ = r.raw.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			// One byte of data resets crypto/tls's own count of useless records.
			n, err := r.raw.Conn.Write(append(r.raw.keyUpdate(true, 5), r.raw.data("x")...))
			if sent += n; err != nil {
				reset(r.raw.Conn) // or the pair would wait for it
				return
			}
		}
		t.Errorf("the relay read %d bytes of a peer that takes no answer", sent)
	})
}

func TestResetStorm(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		p := newPump()
		for i := range 40 {
			r := newRig(t, p, "tls1.3", "tcp").start()
			r.send(r.device, []byte("x"))
			go func() {
				for range 100 {
					if _, err := r.broker.Write([]byte("down")); err != nil {
						return
					}
				}
			}()
			if i%2 == 0 {
				r.expect(r.broker, "x")
			}
			reset(r.device)
			if got := r.end(); got.By != Client {
				t.Errorf("result %+v, want an end by the client", got)
			}
		}
		p.Wait()
	})
}
