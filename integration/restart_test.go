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

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
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
				if err := callOnce(address, packetstest.Identity(5, fmt.Sprintf("caller-%d-%d", i, n), token)); err != nil {
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
	harness.Eventually(t, "calls", func() bool { return c.served.Load() > 50 })
	return c
}

// callOnce fails if the device is refused in whatever way.
func callOnce(address string, hello *packets.Connect) error {
	conn, err := net.DialTimeout("tcp", address, harness.Patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, ack, err := packetstest.Try(conn, hello)
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
	harness.Eventually(t, "more calls", func() bool { return c.served.Load() > before+50 })
}

// onSocket installs the program with one plain listener.
func onSocket(t *testing.T, listener, tokens string, s *harness.Sink) *harness.Proxy {
	t.Helper()
	p := harness.BareProxy(t)
	p.Config = filepath.Join(filepath.Dir(p.Data), "proxy.yaml")
	text := fmt.Sprintf("data: %s\nlisteners: [{name: plain, %s}]\nadmin: {address: '%s'}\nlog: {level: debug, format: json}\nauth: {sources: [{file: {path: '%s'}}]}\n%s",
		p.Data, listener, p.Admin, tokens, s.Upstream())
	if err := os.WriteFile(p.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRestartBySystemd: the test is systemd, which keeps the socket open while the
// program is away. Nobody is turned away.
func TestRestartBySystemd(t *testing.T) {
	t.Parallel()
	p := onSocket(t, "address: 'systemd:mqtt'", "tokens.jsonl", harness.StartSink(t))
	address := p.PassSockets("mqtt")[0]
	token := p.Token("caller")
	p.Start()
	c := call(t, address, token)
	for range 2 {
		p.Stop()
		p.Start()
		c.more(t)
	}
	c.hangUp(t)
}

// TestSocketOfAnotherName: a fault of the units is told in their words.
func TestSocketOfAnotherName(t *testing.T) {
	t.Parallel()
	p := onSocket(t, "address: 'systemd:mqtt'", "tokens.jsonl", harness.StartSink(t))
	p.Token("caller")
	p.Launch()
	if status := p.Wait(t, harness.Patience); status != 1 || !strings.Contains(p.Stderr.String(), "start the service by its socket unit") {
		t.Errorf("status %d\n%s", status, p.Stderr)
	}
}

// TestOverlap: the next process listens on the same address before the one before it
// ends. Closing a socket resets what waits in its queue, but nobody is turned away.
func TestOverlap(t *testing.T) {
	t.Parallel()
	address, s := harness.FreeAddress(t), harness.StartSink(t)
	listener := fmt.Sprintf("address: '%s', reuse_port: true", address)
	first := onSocket(t, listener, "tokens.jsonl", s)
	token := first.Token("caller")
	first.Start()
	c := call(t, address, token)
	for old := first; old != nil; {
		next := onSocket(t, listener, filepath.Join(first.Data, "tokens.jsonl"), s)
		next.AddSecret(token)
		next.Start()
		c.more(t)
		old.Signal(syscall.SIGTERM)
		if status := old.Wait(t, harness.Patience); status != 0 {
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
