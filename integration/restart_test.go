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

// reconnectors are devices that connect and disconnect again and again.
type reconnectors struct {
	running  sync.WaitGroup
	stopping chan struct{}
	served   atomic.Int64
	slowest  atomic.Int64 // time from dial to CONNACK

	mu     sync.Mutex
	faults []error
}

func startReconnecting(t *testing.T, address, token string) *reconnectors {
	t.Helper()
	c := &reconnectors{stopping: make(chan struct{})}
	for i := range 8 {
		c.running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-c.stopping:
					return
				default:
				}
				start := time.Now()
				if err := connectOnce(address, packetstest.Identity(5, fmt.Sprintf("caller-%d-%d", i, n), token)); err != nil {
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

// connectOnce connects a device and returns an error if it is refused.
func connectOnce(address string, hello *packets.Connect) error {
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

// stop ends the devices and reports every connection that failed.
func (c *reconnectors) stop(t *testing.T) {
	t.Helper()
	close(c.stopping)
	c.running.Wait()
	t.Logf("%d calls, the slowest took %v", c.served.Load(), time.Duration(c.slowest.Load()).Round(time.Millisecond))
	for _, err := range c.faults {
		t.Errorf("a device was not served: %v", err)
	}
}

// awaitMore waits for more connections.
func (c *reconnectors) awaitMore(t *testing.T) {
	t.Helper()
	before := c.served.Load()
	harness.Eventually(t, "more calls", func() bool { return c.served.Load() > before+50 })
}

// newProxyOn returns an installation with one plain listener.
func newProxyOn(t *testing.T, listener, tokens string, s *harness.Sink) *harness.Proxy {
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

// TestRestartBySystemd: the test acts as systemd and keeps the socket open while the
// program restarts. No connection is refused.
func TestRestartBySystemd(t *testing.T) {
	t.Parallel()
	p := newProxyOn(t, "address: 'systemd:mqtt'", "tokens.jsonl", harness.StartSink(t))
	address := p.PassSockets("mqtt")[0]
	token := p.Token("caller")
	p.Start()
	c := startReconnecting(t, address, token)
	for range 2 {
		p.Stop()
		p.Start()
		c.awaitMore(t)
	}
	c.stop(t)
}

// TestSocketOfAnotherName: if systemd passes no socket of the configured name, the error says what
// to check in the units.
func TestSocketOfAnotherName(t *testing.T) {
	t.Parallel()
	p := newProxyOn(t, "address: 'systemd:mqtt'", "tokens.jsonl", harness.StartSink(t))
	p.Token("caller")
	p.Launch()
	if status := p.Wait(t, harness.Patience); status != 1 || !strings.Contains(p.Stderr.String(), "start the service by its socket unit") {
		t.Errorf("status %d\n%s", status, p.Stderr)
	}
}

// TestRestartWithTwoProcesses: the new process listens at the same address before the old
// one ends. Closing a socket resets the connections in its queue, but no connection is
// refused.
func TestRestartWithTwoProcesses(t *testing.T) {
	t.Parallel()
	address, s := harness.FreeAddress(t), harness.StartSink(t)
	listener := fmt.Sprintf("address: '%s', reuse_port: true", address)
	first := newProxyOn(t, listener, "tokens.jsonl", s)
	token := first.Token("caller")
	first.Start()
	c := startReconnecting(t, address, token)
	for old := first; old != nil; {
		next := newProxyOn(t, listener, filepath.Join(first.Data, "tokens.jsonl"), s)
		next.AddSecret(token)
		next.Start()
		c.awaitMore(t)
		old.Signal(syscall.SIGTERM)
		if status := old.Wait(t, harness.Patience); status != 0 {
			t.Errorf("exit status %d", status)
		}
		c.awaitMore(t)
		if old != first {
			break
		}
		old = next
	}
	c.stop(t)
}
