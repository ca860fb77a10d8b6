package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRelayBothWays(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.start()
		for _, size := range []int{1, 100, smallBuffer - 1, smallBuffer, smallBuffer + 1, largeBuffer, 3*largeBuffer + 7, 1} {
			up, down := strings.Repeat("u", size), strings.Repeat("d", size)
			go r.device.Write([]byte(up))
			r.expect(r.broker, up)
			go r.broker.Write([]byte(down))
			r.expect(r.device, down)
		}
	})
}

func TestHalfClose(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.start()
		r.send(r.device, []byte("last words"))
		closeWrite(t, r.device)
		r.expectEnd(r.broker, "last words")
		r.send(r.broker, []byte("answer"))
		r.broker.Close()
		r.expectEnd(r.device, "answer")
		want := Result{Up: 10, Down: 6, By: Client}
		if got := r.end(); got != want {
			t.Errorf("result %+v, want %+v", got, want)
		}
	})
}

func TestHalfCloseByUpstream(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.start()
		r.send(r.broker, []byte("last words"))
		closeWrite(t, r.broker)
		r.expectEnd(r.device, "last words")
		r.send(r.device, []byte("answer"))
		r.device.Close()
		r.expectEnd(r.broker, "answer")
		want := Result{Up: 6, Down: 10, By: Upstream}
		if got := r.end(); got != want {
			t.Errorf("result %+v, want %+v", got, want)
		}
	})
}

func TestLargePendingWhenUpstreamCloses(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.start()
		want := strings.Repeat("0123456789abcdef", 5<<20/16)
		go func() {
			_, _ = io.WriteString(r.broker, want)
			r.broker.Close()
		}()
		runtime.Gosched()
		r.expectEnd(r.device, want)
		r.device.Close()
		if got := r.end(); got.Down != int64(len(want)) || got.By != Upstream || got.Err != nil {
			t.Errorf("result %+v", got)
		}
	})
}

func TestReset(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "tls1.3"} {
			t.Run("client "+transport, func(t *testing.T) {
				r := newRig(t, newPump(), transport, "tcp").start()
				r.send(r.device, []byte("before"))
				r.expect(r.broker, "before")
				reset(r.device)
				r.expectEnd(r.broker, "")
				if got := r.end(); got.By != Client || !errors.Is(got.Err, syscall.ECONNRESET) {
					t.Errorf("result %+v, want a reset by the client", got)
				}
			})
			t.Run("upstream "+transport, func(t *testing.T) {
				r := newRig(t, newPump(), "tcp", transport).start()
				r.send(r.broker, []byte("before"))
				r.expect(r.device, "before")
				reset(r.broker)
				r.expectEnd(r.device, "")
				r.device.Close()
				if got := r.end(); got.By != Upstream || !errors.Is(got.Err, syscall.ECONNRESET) {
					t.Errorf("result %+v, want a reset by the upstream", got)
				}
			})
		}
	})
}

// A broker that ends a session sends DISCONNECT and closes. If it has not read everything by then,
// the close is a reset, and the DISCONNECT must arrive nevertheless.
func TestBytesBeforeResetArrive(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for range 20 {
			r := newRig(t, newPump(), "tcp", "tcp").start()
			r.send(r.device, []byte("hello"))
			r.expect(r.broker, "hello")
			r.send(r.device, []byte("never read"))
			for up := int64(0); up < 15; up, _ = r.session.Bytes() {
				runtime.Gosched()
			}
			r.send(r.broker, []byte("go away"))
			r.broker.Close()
			stop := make(chan struct{})
			go func() { // a device that does not stop sending
				defer close(stop)
				for i := 0; i < 1000; i++ {
					if _, err := r.device.Write([]byte("more")); err != nil {
						return
					}
				}
			}()
			r.expect(r.device, "go away")
			<-stop
			r.device.Close()
			if got := r.end(); got.By != Upstream {
				t.Fatalf("result %+v, want an end by the upstream", got)
			}
		}
	})
}

// A receiver that does not read stops the sender, too: the bytes on their way fit into the sockets'
// buffers and one of ours.
func TestStalledReceiverStopsSender(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tcp", "tcp")
		for _, c := range []net.Conn{r.device, r.broker, r.pair.Client.Socket.Conn, r.pair.Upstream.Socket.Conn} {
			_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
			_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
		}
		r.start()
		sent := 0
		chunk := bytes.Repeat([]byte("x"), 8<<10)
		for {
			_ = r.broker.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := r.broker.Write(chunk)
			sent += n
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil || sent > 8<<20 {
				t.Fatalf("%d bytes went to a device that reads none, %v", sent, err)
			}
		}
		if _, down := r.session.Bytes(); int64(sent)-down > 400<<10 {
			t.Errorf("%d bytes are held between the sockets", int64(sent)-down)
		}
		r.expect(r.device, strings.Repeat("x", sent))
	})
}

func TestDescriptorsReturn(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		before := descriptors(t)
		p := newPump()
		for range 50 {
			r := newRig(t, p, "tcp", "unix").start()
			r.send(r.device, []byte("x"))
			r.expect(r.broker, "x")
			r.device.Close()
			r.expectEnd(r.broker, "")
			r.broker.Close()
			r.end()
		}
		p.Wait()
		if after := descriptors(t); after > before+2 { // the runtime's poller may have been opened meanwhile
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

func TestTwoDescriptorsPerIdlePair(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		const pairs = 50
		p := newPump()
		before := descriptors(t)
		for range pairs {
			r := newRig(t, p, "tcp", "tcp").start()
			r.send(r.device, bytes.Repeat([]byte("x"), 100<<10))
			r.expect(r.broker, strings.Repeat("x", 100<<10))
		}
		// Two for the relay and two for the test's own ends.
		if n := descriptors(t) - before; n > pairs*4+8 {
			t.Errorf("%d pairs hold %d descriptors, want 4 each", pairs, n)
		}
	})
}

func descriptors(t testing.TB) int {
	t.Helper()
	dir := "/proc/self/fd"
	if _, err := os.Stat(dir); err != nil {
		dir = "/dev/fd"
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// A connection without a descriptor is read and written with blocking calls.
func TestConnectionWithoutDescriptor(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tcp", "tcp")
		r.pair.Client = NewStack(struct{ net.Conn }{r.pair.Client.Socket.Conn})
		r.start()
		r.send(r.device, []byte("up"))
		r.expect(r.broker, "up")
		r.send(r.broker, []byte("down"))
		r.broker.Close()
		r.expectEnd(r.device, "down")
		if got := r.end(); got.By != Upstream || got.Err != nil {
			t.Errorf("result %+v, want an orderly end by the upstream", got)
		}
	})
}

// A deadline that is still set on a connection neither ends the pair nor keeps a
// processor busy.
func TestForgottenDeadline(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tcp", "tcp")
		_ = r.pair.Client.Conn.SetReadDeadline(longAgo)
		r.start()
		r.send(r.device, []byte("up"))
		r.expect(r.broker, "up")
		r.send(r.broker, []byte("down"))
		r.expect(r.device, "down")
	})
}
