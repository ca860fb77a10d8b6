//go:build integration && linux

package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// callers are devices that connect, say hello and leave, again and again.
type callers struct {
	running sync.WaitGroup
	stop    chan struct{}
	served  atomic.Int64
	slowest atomic.Int64 // time from dial to CONNACK

	mu     sync.Mutex
	faults []error
}

func call(t *testing.T, address, token string) *callers {
	t.Helper()
	c := &callers{stop: make(chan struct{})}
	for i := range 8 {
		c.running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-c.stop:
					return
				default:
				}
				start := time.Now()
				if err := callOnce(address, identity(5, fmt.Sprintf("caller-%d-%d", i, n), token)); err != nil {
					c.mu.Lock()
					c.faults = append(c.faults, fmt.Errorf("after %v: %w", time.Since(start), err))
					c.mu.Unlock()
				}
				c.served.Add(1)
				c.slowest.Store(max(c.slowest.Load(), int64(time.Since(start))))
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	eventually(t, "calls", func() bool { return c.served.Load() > 50 })
	return c
}

// callOnce fails if the device is refused in whatever way.
func callOnce(address string, hello *packets.Connect) error {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, ack, err := try(conn, hello)
	if err != nil {
		return err
	}
	if ack.Code != packets.Success {
		return fmt.Errorf("refused: %v", ack.Code)
	}
	return nil
}

// hangUp ends the calls, of which none may have failed.
func (c *callers) hangUp(t *testing.T) {
	t.Helper()
	close(c.stop)
	c.running.Wait()
	t.Logf("%d calls, the slowest took %v", c.served.Load(), time.Duration(c.slowest.Load()).Round(time.Millisecond))
	for _, err := range c.faults {
		t.Errorf("a device was not served: %v", err)
	}
}

// more waits until the calls go on.
func (c *callers) more(t *testing.T) {
	t.Helper()
	before := c.served.Load()
	eventually(t, "more calls", func() bool { return c.served.Load() > before+50 })
}

// onSocket installs the program with one plain listener.
func onSocket(t *testing.T, listener, tokens string, s *sink) *proxy {
	t.Helper()
	p := bareProxy(t)
	p.config = filepath.Join(filepath.Dir(p.data), "proxy.yaml")
	text := fmt.Sprintf("data: %s\nlisteners: [{name: plain, %s}]\nadmin: {address: '%s'}\nlog: {level: debug, format: json}\nauth: {sources: [{file: {path: '%s'}}]}\n%s",
		p.data, listener, p.admin, tokens, s.upstream())
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRestartBySystemd: the test is systemd, which keeps the socket open while the
// program is away. Nobody is turned away.
func TestRestartBySystemd(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	socket, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	p := onSocket(t, "address: 'systemd:mqtt'", "tokens.jsonl", startSink(t))
	p.files = []*os.File{socket}
	p.environ = append(p.environ, "LISTEN_FDS=1", "LISTEN_FDNAMES=mqtt")
	p.wrapper = []string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}
	token := p.token("caller")
	p.start()
	c := call(t, ln.Addr().String(), token)
	for range 2 {
		p.stop()
		p.start()
		c.more(t)
	}
	c.hangUp(t)
}

// TestSocketOfAnotherName: a fault of the units is told in their words.
func TestSocketOfAnotherName(t *testing.T) {
	t.Parallel()
	p := onSocket(t, "address: 'systemd:mqtt'", "tokens.jsonl", startSink(t))
	p.token("caller")
	p.launch()
	if status := p.wait(t, patience); status != 1 || !strings.Contains(p.stderr.String(), "start the service by its socket unit") {
		t.Errorf("status %d\n%s", status, p.stderr)
	}
}

// TestOverlap: the next process listens on the same address before the one before it
// ends. Closing a socket resets what waits in its queue, but nobody is turned away.
func TestOverlap(t *testing.T) {
	t.Parallel()
	address, s := freeAddress(t), startSink(t)
	listener := fmt.Sprintf("address: '%s', reuse_port: true", address)
	first := onSocket(t, listener, "tokens.jsonl", s)
	token := first.token("caller")
	first.start()
	c := call(t, address, token)
	for old := first; old != nil; {
		next := onSocket(t, listener, filepath.Join(first.data, "tokens.jsonl"), s)
		next.keep(token)
		next.start()
		c.more(t)
		old.signal(syscall.SIGTERM)
		if status := old.wait(t, patience); status != 0 {
			t.Errorf("exit status %d", status)
		}
		c.more(t)
		if old != first {
			break
		}
		old = next
	}
	c.hangUp(t)
}
