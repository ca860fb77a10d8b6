package relay

import (
	"bytes"
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Last bytes and the end of stream that come together are one event, and one read
// that does not fill its buffer. The loop is kept from seeing them one by one: it
// waits for another pair meanwhile.
func TestDataAndEndInOneEvent(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "unix", "tls1.2", "tls1.3"} {
			t.Run(transport, func(t *testing.T) {
				p := newPump()
				p.QuietAfter = time.Hour // a pair begins without goroutines, and keeps those it gets
				r := newRig(t, p, transport, "tcp").framed().start()
				release := func() {}
				if !p.Goroutines {
					release = holdLoop(t, p)
				}
				r.send(r.device, packet("last"))
				closeWrite(t, wireOf(r.device))
				if !p.Goroutines {
					client, _ := r.sockets()
					eventually(t, "data and end to arrive", func() bool { return hasDataAndEnd(client) })
				}
				release()
				r.expectEnd(r.broker, string(packet("last")))
				r.broker.Close()
				r.expectEnd(r.device, "")
				if got := r.end(); got.By != Client || got.Err != nil || got.Up != int64(len(packet("last"))) {
					t.Errorf("result %+v, want an orderly end by the client", got)
				}
			})
		}
	})
}

// wireOf returns the connection below TLS.
func wireOf(c net.Conn) net.Conn {
	if secured, ok := c.(*tls.Conn); ok {
		return secured.NetConn()
	}
	return c
}

// holdLoop makes the loop of a pump wait for a pair that the test has locked.
func holdLoop(t *testing.T, p *Pump) (release func()) {
	t.Helper()
	other := newRig(t, p, "tcp", "tcp").framed().start()
	other.session.mu.Lock()
	release = sync.OnceFunc(other.session.mu.Unlock)
	t.Cleanup(release)
	other.send(other.device, packet("wait for me"))
	stacks := make([]byte, 1<<20)
	eventually(t, "the loop to wait", func() bool {
		for stack := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
			if bytes.Contains(stack, []byte("relay.(*loop).handle(")) && bytes.Contains(stack, []byte("[sync.Mutex.Lock")) {
				return true
			}
		}
		return false
	})
	return release
}

// hasDataAndEnd reports whether a socket has both to be read.
func hasDataAndEnd(fd descriptor) bool {
	const both = unix.POLLIN | unix.POLLRDHUP
	fds := []unix.PollFd{{Fd: int32(fd), Events: both}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&both == both
}
