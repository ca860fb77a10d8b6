//go:build integration && linux

package integration

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// refuse makes n connections, from an address of their own, that are refused. Each must
// get its answer and be closed.
func refuse(t testing.TB, p *harness.Proxy, n int) {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}, Timeout: harness.Patience}
	hello := packetstest.Identity(4, strings.Repeat("\x01", 200), "no-token-of-anybody").Append(nil)
	for i := range n {
		conn, err := from.Dial("tcp", p.Plain)
		if err != nil {
			t.Fatal(err)
		}
		answer := packetstest.Exchange(t, conn, string(hello), harness.Patience)
		conn.Close()
		if len(answer) != 4 || answer[3] == 0 {
			t.Fatalf("refusal %d: answered % x", i, answer)
		}
	}
}

// overflow causes more log than the pipe and the program's buffer hold.
func overflow(t testing.TB, p *harness.Proxy) {
	t.Helper()
	for range 50 {
		refuse(t, p, 200)
		if !p.HasMetric("mqtt_auth_proxy_log_lost_total 0") {
			return
		}
	}
	t.Fatal("no line of the log was lost")
}

// awaitLostLines waits until the metrics count lines of the log that were lost.
func awaitLostLines(t testing.TB, p *harness.Proxy) {
	t.Helper()
	harness.Eventually(t, "a lost line in the metrics", func() bool { return !p.HasMetric("mqtt_auth_proxy_log_lost_total 0") })
}

// TestLogReaderGone: the program continues when the reader of its log ends, and shuts down in
// order.
func TestLogReaderGone(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := harness.NewProxy(t, "")
			token := p.Token("device")
			log := p.StartWithLogPipe(format)
			d := p.Connect(t, 4, "before", token)
			log.Close()
			refuse(t, p, 10)
			later := p.Connect(t, 4, "later", token)
			for _, d := range []*packetstest.Client{d, later} {
				if err := d.Publish("a", "b"); err != nil {
					t.Error(err)
				}
			}
			awaitLostLines(t, p)
			p.Stop()
		})
	}
}

// TestLogOnAFullDisk: if the log cannot be written, lines are lost and counted. Nothing
// else happens.
func TestLogOnAFullDisk(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	token := p.Token("device")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.StartWithLogFile("json", full)
	refuse(t, p, 10)
	d := p.Connect(t, 4, "device", token)
	if err := d.Publish("a", "b"); err != nil {
		t.Error(err)
	}
	awaitLostLines(t, p)
	p.Stop()
}

// TestLogReaderStalled: while the log is not read, devices are refused and served, and
// signals work. Once it is read again, the log says how many lines were lost.
func TestLogReaderStalled(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := harness.NewProxy(t, "")
			token := p.Token("device")
			log := p.StartWithLogPipe(format)
			before := p.Connect(t, 4, "before", token)
			overflow(t, p)
			later := p.Connect(t, 4, "later", token)
			for _, d := range []*packetstest.Client{before, later} {
				if err := d.Publish("a", "b"); err != nil {
					t.Error(err)
				}
			}
			if format == "json" {
				p.Stop()
				return
			}
			var text bytes.Buffer
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.Copy(&text, log)
			}()
			refuse(t, p, 1)
			p.Stop()
			<-read
			for _, want := range []string{"lines of the log were lost", "shutting down", "shut down"} {
				if !strings.Contains(text.String(), want) {
					t.Errorf("the log does not say %q:\n%s", want, harness.Excerpt(text.String()))
				}
			}
			for i, line := range strings.Split(text.String(), "\n") {
				if len(line) > 2000 {
					t.Errorf("line %d has %d bytes", i, len(line))
				}
			}
		})
	}
}

// TestSecondSignalWhileLogReaderIsStalled: a second signal ends the program at once,
// although the log is not read.
func TestSecondSignalWhileLogReaderIsStalled(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "shutdown: {drain: 10m}\n")
	token := p.Token("device")
	p.StartWithLogPipe("json")
	overflow(t, p)
	stuck := p.Connect(t, 5, "stuck", token)
	stuck.MustSubscribe("flood", 0)
	source := p.Connect(t, 5, "source", token)
	for range 32 {
		if err := source.Publish("flood", string(make([]byte, 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	p.Signal(syscall.SIGTERM)
	harness.Eventually(t, "a shutdown", func() bool {
		resp, err := http.Get("http://" + p.Admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	begun := time.Now()
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(t, harness.Patience); status != 1 {
		t.Errorf("status %d after two signals, want 1", status)
	}
	t.Log("ended after", time.Since(begun).Round(time.Millisecond))
}

// TestCrashDoesNotWaitForLogReader: a supervisor can only restart the program once it has
// ended. SIGQUIT makes the Go runtime end it as a bug would.
func TestCrashDoesNotWaitForLogReader(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	log := p.StartWithLogPipe("json")
	overflow(t, p)
	p.Signal(syscall.SIGQUIT)
	if status := p.Wait(t, harness.Patience); status != 2 {
		t.Errorf("status %d, want 2", status)
	}
	log.Close()

	// If the log is read, the runtime's report arrives.
	log = p.StartWithLogPipe("json")
	var text bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&text, log)
	}()
	p.Signal(syscall.SIGQUIT)
	<-read
	if !strings.Contains(text.String(), "SIGQUIT: quit") || !strings.Contains(text.String(), "goroutine ") {
		t.Errorf("the log does not say why:\n%s", harness.Excerpt(text.String()))
	}
}

// TestLogCannotFillTheDisk: neither long client identifiers nor payloads that cannot be
// stored cause much log.
func TestLogCannotFillTheDisk(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=info")
	token := p.Token("device")
	p.Start()
	for range 300 {
		conn := packetstest.Dial(t, p.Plain)
		packetstest.Exchange(t, conn, string(packetstest.Identity(4, strings.Repeat("é", 30_000), "no-token-of-anybody").Append(nil)), harness.Patience)
		conn.Close()
	}
	d := p.Connect(t, 4, strings.Repeat("y", 60_000), token)
	for range 10 {
		if _, err := d.Conn.Write(bytes.Repeat([]byte("\x30\x1d\x00\x17v1/devices/me/telemetry{bad"), 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Publish("a", "b"); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "a count of what was left out", func() bool {
		_, metrics := p.Get("/metrics")
		return strings.Contains(metrics, `mqtt_auth_proxy_log_suppressed_total{message="device sent a payload that cannot be stored",reason=""} 9`)
	})
	d.Conn.Close()
	p.AwaitLog("the end", func(l harness.LogLine) bool { return l["message"] == "session end" })
	if size := len(p.Stderr.String()); size > 200_000 {
		t.Errorf("%d bytes of log:\n%s", size, harness.Excerpt(p.Stderr.String()))
	}
}
