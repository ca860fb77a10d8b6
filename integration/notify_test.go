//go:build integration && linux

package integration

import (
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// serviceManager collects what the program reports to systemd.
type serviceManager struct {
	mu       sync.Mutex
	messages []string
}

// startServiceManager makes the program report to a new serviceManager.
func startServiceManager(t *testing.T, p *harness.Proxy) *serviceManager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p.Env = append(p.Env, "NOTIFY_SOCKET="+path)
	m := &serviceManager{}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.messages = append(m.messages, string(b[:n]))
			m.mu.Unlock()
		}
	}()
	return m
}

// after returns the reports that contain text, without the first n of all reports.
func (m *serviceManager) after(n int, text string) (found []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.messages[min(n, len(m.messages)):] {
		if strings.Contains(s, text) {
			found = append(found, s)
		}
	}
	return found
}

func (m *serviceManager) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.messages)
}

// TestNotifyProtocol: the reports to systemd from the start to the end, also while there
// is no broker.
func TestNotifyProtocol(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	m := startServiceManager(t, p)
	p.Env = append(p.Env, "WATCHDOG_USEC=400000")
	token := p.Token("device")
	p.Start()
	wait := func(n int, text string, times int) {
		t.Helper()
		harness.Eventually(t, text, func() bool { return len(m.after(n, text)) >= times })
	}
	wait(0, "READY=1\nSTATUS=serving: 0 sessions", 1)
	p.Connect(t, 5, "device", token)
	wait(0, "STATUS=serving: 1 sessions", 1)

	before := m.count()
	p.Signal(syscall.SIGHUP)
	wait(before, "RELOADING=1\nMONOTONIC_USEC=", 1)
	wait(before, "READY=1", 1)

	// Without a broker devices are not served, but a restart would not help, so the
	// watchdog must still get reports.
	s.Close()
	harness.Eventually(t, "not ready", func() bool {
		status, _ := harness.Fetch(t, "http://"+p.Admin+"/readyz", "")
		return status == 503 || refusedOnce(p, token)
	})
	wait(m.count(), "WATCHDOG=1", 5)

	p.Stop()
	wait(0, "STOPPING=1", 1)
	time.Sleep(500 * time.Millisecond)
	if n := len(m.after(m.count()-1, "WATCHDOG=1")); n > 1 {
		t.Error("the watchdog is not fed")
	}
}

// refusedOnce connects a device, so that the proxy notices that the broker is gone. It
// returns false.
func refusedOnce(p *harness.Proxy, token string) bool {
	_ = connectOnce(p.Plain, packetstest.Identity(5, "late", token))
	return false
}
