package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeConn is a connection over two pipes, so that each way can be closed on its
// own.
type pipeConn struct {
	net.Conn // read from
	w        net.Conn
}

func pipePair() (a, b *pipeConn) {
	r1, w1 := net.Pipe()
	r2, w2 := net.Pipe()
	return &pipeConn{r1, w2}, &pipeConn{r2, w1}
}

func (c *pipeConn) Write(b []byte) (int, error)        { return c.w.Write(b) }
func (c *pipeConn) CloseWrite() error                  { return c.w.Close() }
func (c *pipeConn) SetWriteDeadline(t time.Time) error { return c.w.SetWriteDeadline(t) }
func (c *pipeConn) Close() error                       { c.w.Close(); return c.Conn.Close() }

// inBubble runs f with a pair over pipes, plain and with TLS on both sides, under a
// fake clock.
func inBubble(t *testing.T, f func(t *testing.T, r *rig)) {
	for name, pair := range map[string]func(t testing.TB, server bool) (net.Conn, Stack){
		"plain": func(testing.TB, bool) (net.Conn, Stack) { return stacked(pipePair()) },
		"tls": func(t testing.TB, server bool) (net.Conn, Stack) {
			a, b := pipePair()
			return stacked(secure(t, a, b, server, tls.VersionTLS13))
		},
	} {
		certificate() // made outside of the bubble
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rig{TB: t, pump: &Pump{}}
				r.device, r.pair.Client = pair(t, true)
				r.broker, r.pair.Upstream = pair(t, false)
				f(t, r.framed())
				r.device.Close()
				r.broker.Close()
				r.pump.Wait()
			})
		})
	}
}

// endsAfter waits for the result and checks when it came, in fake time.
func (r *rig) endsAfter(since time.Time, want time.Duration) Result {
	r.Helper()
	result := r.end()
	if got := time.Since(since); got != want {
		r.Errorf("ended after %v, want %v", got, want)
	}
	return result
}

func discard(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func TestLingerEndsSecondDirection(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		start := time.Now()
		go discard(r.device)
		closeWrite(t, r.device)
		r.expectEnd(r.broker, "")
		if got, want := r.endsAfter(start, 10*time.Second), (Result{By: Client}); got != want {
			t.Errorf("result %+v, want %+v", got, want)
		}
	})
}

// After the upstream has ended, the pair ends soon, even if the client does not close and the
// upstream reads nothing of what the client sends.
func TestPairEndsSoonAfterItsUpstream(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		r.send(r.device, packet("the broker never reads this"))
		start := time.Now()
		go func() { _ = r.broker.(closeWriter).CloseWrite() }()
		r.expectEnd(r.device, "")
		if got := r.endsAfter(start, time.Second); got.By != Upstream || got.Err != nil {
			t.Errorf("result %+v, want an orderly end by the upstream", got)
		}
	})
}

func TestWriteTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		start := time.Now()
		go discard(r.broker)
		r.send(r.broker, packet("not read"))
		got := r.endsAfter(start, 60*time.Second)
		if got.By != Client || !errors.Is(got.Err, ErrStalled) {
			t.Errorf("result %+v, want a stall of the client", got)
		}
	})
}

// The write timeout applies to a filter's answers, too. After a part of an answer the client gets
// nothing more.
func TestWriteTimeoutOfAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.pump.WriteTimeout = 20 * time.Second
		r.pair.FilterUp = filterFunc(answersAll)
		r.start()
		synctest.Wait() // a goroutine that waits for a lock would keep the clock from going on
		start, wait := time.Now(), 20*time.Second
		r.send(r.device, packet("denied"))
		if pipe, plain := r.device.(*pipeConn); plain {
			r.expect(pipe, string(packet("answer")[:2]))
			wait *= 2 // something was taken during the first
		}
		go discard(r.broker)
		if got := r.endsAfter(start, wait); got.By != Client || !errors.Is(got.Err, ErrStalled) {
			t.Errorf("result %+v, want a stall of the client", got)
		}
		if rest, _ := io.ReadAll(r.device); len(rest) > 0 {
			t.Errorf("the client got %q after part of an answer", rest)
		}
	})
}

// A receiver that takes a little within each write timeout is slow, not stalled.
func TestSlowReceiverIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{TB: t, pump: &Pump{WriteTimeout: time.Second}}
		r.device, r.pair.Client = stacked(pipePair())
		r.broker, r.pair.Upstream = stacked(pipePair())
		r.start()
		r.send(r.broker, []byte("0123456789"))
		for i := range 10 {
			time.Sleep(900 * time.Millisecond)
			r.expect(r.device, string(rune('0'+i)))
		}
		r.broker.Close()
		r.expectEnd(r.device, "")
		r.device.Close()
		if got := r.end(); got.Err != nil || got.Down != 10 {
			t.Errorf("result %+v, want 10 bytes and no fault", got)
		}
	})
}

func TestCutIdle(t *testing.T) {
	cause := errors.New("revoked")
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		r.session.Cut(CloseNotice{Client: packet("bye client"), Upstream: packet("bye upstream"), Err: cause})
		r.session.Cut(CloseNotice{Client: packet("too late"), Err: errors.New("too late")})
		r.expectEnd(r.broker, string(packet("bye upstream")))
		r.expectEnd(r.device, string(packet("bye client")))
		r.device.Close()
		if got, want := r.end(), (Result{Err: cause}); got != want {
			t.Errorf("result %+v, want %+v", got, want)
		}
	})
}

// TestSecondCutEndsTheGrace: neither side takes the last packets of the first.
func TestSecondCutEndsTheGrace(t *testing.T) {
	cause := errors.New("draining")
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		r.session.Cut(CloseNotice{Client: packet("bye client"), Flush: true, Err: cause})
		synctest.Wait()
		start := time.Now()
		r.session.Cut(CloseNotice{})
		if got, want := r.end(), (Result{Err: cause}); got != want || time.Since(start) != 0 {
			t.Errorf("result %+v after %v, want %+v at once", got, time.Since(start), want)
		}
	})
}

// The upstream gets its close notice first: until it has taken its close notice, the client
// gets none.
func TestUpstreamCloseNoticeComesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		start := time.Now()
		go discard(r.device)
		r.session.Cut(CloseNotice{Client: packet("c"), Upstream: packet("u")})
		synctest.Wait()
		if len(r.result) != 0 {
			t.Error("the pair ended before the upstream took its close notice")
		}
		time.Sleep(200 * time.Millisecond)
		go discard(r.broker)
		synctest.Wait()
		if got := time.Since(start); got != 200*time.Millisecond {
			t.Errorf("took %v", got)
		}
		closeWrite(t, r.device)
		r.end()
	})
}

// An upstream that takes nothing costs half of the grace; the client still gets its
// close notice.
func TestCutWithStalledUpstream(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		start := time.Now()
		r.send(r.device, packet("the broker never reads this"))
		r.session.Cut(CloseNotice{Client: packet("bye"), Upstream: packet("u")})
		r.expectEnd(r.device, string(packet("bye")))
		r.device.Close()
		r.endsAfter(start, 500*time.Millisecond)
	})
}

func TestCutWithStalledClient(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		start := time.Now()
		r.send(r.broker, packet("the device never reads this"))
		r.session.Cut(CloseNotice{Client: packet("bye"), Upstream: packet("u")})
		r.expectEnd(r.broker, string(packet("u")))
		if got := r.endsAfter(start, time.Second); got.By != NoSide || got.Err != nil {
			t.Errorf("result %+v", got)
		}
	})
}

// A client that goes on sending after its close notice is read until the grace is over.
func TestCutWithClientThatDoesNotClose(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		start := time.Now()
		go discard(r.broker)
		r.session.Cut(CloseNotice{Client: packet("bye")})
		r.expectEnd(r.device, string(packet("bye")))
		r.send(r.device, packet("still here"))
		r.endsAfter(start, time.Second)
	})
}

func TestCutWithoutCloseNoticeIsImmediate(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		start := time.Now()
		go discard(r.device)
		go discard(r.broker)
		r.session.Cut(CloseNotice{})
		r.endsAfter(start, 0)
	})
}

func TestNoCloseNoticeInsidePacket(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		half := string(packet("a packet that is cut off")[:10])
		go r.broker.Write([]byte(half))
		r.expect(r.device, half)
		go r.device.Write([]byte(half))
		r.expect(r.broker, half)
		synctest.Wait()
		r.session.Cut(CloseNotice{Client: packet("bye"), Upstream: packet("bye")})
		r.expectEnd(r.broker, "")
		r.expectEnd(r.device, "")
		r.end()
	})
}

func TestNoCloseNoticeWithoutFramer(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.pair.FromClient, r.pair.FromUpstream = nil, nil
		r.start()
		r.send(r.broker, []byte("x"))
		r.expect(r.device, "x")
		synctest.Wait()
		r.session.Cut(CloseNotice{Client: packet("bye"), Upstream: packet("bye")})
		r.expectEnd(r.broker, "")
		r.expectEnd(r.device, "")
		r.end()
	})
}

// TestFramerEndsThePair: what a framer refuses is not passed on.
func TestFramerEndsThePair(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.pair.FromClient = failingFramer{}
		r.start()
		r.send(r.device, []byte("x"))
		r.expectEnd(r.broker, "")
		r.expectEnd(r.device, "")
		if got := r.end(); got.By != Client || !errors.Is(got.Err, errNotAPacket) || got.Up != 0 {
			t.Errorf("result %+v", got)
		}
	})
}

var errNotAPacket = errors.New("not a packet")

type failingFramer struct{}

func (failingFramer) Advance([]byte) (int, error) { return 0, errNotAPacket }
func (failingFramer) AtBoundary() bool            { return true }

func TestFlush(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		late := packet("what the broker had still under way")
		go func() {
			discard(r.broker) // until its end of stream has come
			time.Sleep(100 * time.Millisecond)
			_, _ = r.broker.Write(late)
			r.broker.Close()
		}()
		r.session.Cut(CloseNotice{Client: packet("bye"), Flush: true})
		r.expectEnd(r.device, string(late)+string(packet("bye")))
		r.device.Close()
		if got := r.end(); got.By != NoSide || got.Down != int64(len(late)) {
			t.Errorf("result %+v", got)
		}
	})
}

func TestFlushOfUpstreamThatDoesNotEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.start()
		start := time.Now()
		go discard(r.broker)
		r.session.Cut(CloseNotice{Client: packet("bye"), Flush: true})
		r.expectEnd(r.device, string(packet("bye")))
		r.device.Close()
		r.endsAfter(start, 500*time.Millisecond)
	})
}

// A receiver that cannot get the end of stream is closed at once.
func TestEndWithoutHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{TB: t, pump: &Pump{}}
		r.device, r.pair.Client = stacked(net.Pipe())
		r.broker, r.pair.Upstream = stacked(pipePair())
		r.start()
		start := time.Now()
		go func() {
			_, _ = r.broker.Write([]byte("bye"))
			r.broker.Close()
		}()
		r.expectEnd(r.device, "bye")
		if got := r.endsAfter(start, 0); got.By != Upstream || got.Err != nil {
			t.Errorf("result %+v", got)
		}
	})
}

// deadConn fails every read or write.
type deadConn struct {
	net.Conn
	readErr, writeErr error
}

func (c *deadConn) Read(b []byte) (int, error) {
	if c.readErr != nil {
		return 0, c.readErr
	}
	return c.Conn.Read(b)
}

func (c *deadConn) Write(b []byte) (int, error) {
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	return c.Conn.Write(b)
}

func TestSideOfAFault(t *testing.T) {
	fault := errors.New("no route")
	for _, c := range []struct {
		name             string
		client, upstream deadConn
		by               Side
		text             string
	}{
		{"client read", deadConn{readErr: fault}, deadConn{}, Client, "read: no route"},
		{"client write", deadConn{writeErr: fault}, deadConn{}, Client, "write: no route"},
		{"upstream read", deadConn{}, deadConn{readErr: fault}, Upstream, "read: no route"},
		{"upstream write", deadConn{}, deadConn{writeErr: fault}, Upstream, "write: no route"},
		{"client closes", deadConn{readErr: io.EOF}, deadConn{}, Client, ""},
		{"upstream closes", deadConn{}, deadConn{readErr: io.EOF}, Upstream, ""},
		{"client drops TLS", deadConn{readErr: io.ErrUnexpectedEOF}, deadConn{}, Client, ""},
		{"client stalls", deadConn{writeErr: os.ErrDeadlineExceeded}, deadConn{}, Client, ErrStalled.Error()},
		{"upstream stalls", deadConn{}, deadConn{writeErr: os.ErrDeadlineExceeded}, Upstream, ErrStalled.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rig{TB: t, pump: &Pump{}}
				r.device, c.client.Conn = pipePair()
				r.broker, c.upstream.Conn = pipePair()
				r.pair.Client, r.pair.Upstream = NewStack(&c.client), NewStack(&c.upstream)
				r.start()
				go r.device.Write([]byte("x"))
				go r.broker.Write([]byte("x"))
				go discard(r.device)
				go discard(r.broker)
				got := r.end()
				text := ""
				if got.Err != nil {
					text = got.Err.Error()
				}
				// Both sides write: with one dead end the other may be blamed
				// for nothing.
				if got.By != c.by || !strings.Contains(text, c.text) || (text == "") != (c.text == "") {
					t.Errorf("%v ended it with %q, want %v with %q", got.By, text, c.by, c.text)
				}
				r.device.Close()
				r.broker.Close()
			})
		})
	}
}
