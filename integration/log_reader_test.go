//go:build integration && linux

package integration

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startInto starts the program with a pipe as its output, and returns the end that
// somebody ought to read.
func (p *proxy) startInto(format string) *os.File {
	p.t.Helper()
	from, to, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { from.Close() })
	p.startOnto(format, to)
	return from
}

// startOnto starts the program with a file as its output, and closes that.
func (p *proxy) startOnto(format string, to *os.File) {
	p.t.Helper()
	cmd := exec.Command(binary, "serve", "--config", p.config)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(p.environ, "MQTT_AUTH_PROXY_LOG_FORMAT="+format), to, to
	p.process = &process{cmd: cmd, stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	to.Close()
	go func() {
		defer close(p.exited)
		_ = cmd.Wait()
		p.status = cmd.ProcessState.ExitCode()
	}()
	p.t.Cleanup(p.kill)
	p.awaitServing()
}

// refuse makes n connections from an address of their own that are refused. Each
// gets its answer and its end.
func refuse(t testing.TB, p *proxy, n int) {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}, Timeout: patience}
	hello := identity(4, strings.Repeat("\x01", 200), "no-token-of-anybody").Append(nil)
	for i := range n {
		conn, err := from.Dial("tcp", p.plain)
		if err != nil {
			t.Fatal(err)
		}
		answer := exchange(t, conn, string(hello), patience)
		conn.Close()
		if len(answer) != 4 || answer[3] == 0 {
			t.Fatalf("refusal %d: answered % x", i, answer)
		}
	}
}

// overflow makes more log than pipe and program hold.
func overflow(t testing.TB, p *proxy) {
	t.Helper()
	for range 50 {
		refuse(t, p, 200)
		if !p.counts("mqtt_auth_proxy_log_lost_total 0") {
			return
		}
	}
	t.Fatal("the log has found room for everything")
}

// TestLogReaderGone: the program outlives who reads its log, and ends in order.
func TestLogReaderGone(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, "")
			token := p.token("device")
			log := p.startInto(format)
			d := connect(t, dial(t, p.plain), identity(4, "before", token))
			log.Close()
			refuse(t, p, 10)
			later := connect(t, dial(t, p.plain), identity(4, "later", token))
			for _, d := range []*device{d, later} {
				if err := d.publish("a", "b"); err != nil {
					t.Error(err)
				}
			}
			if _, metrics := p.get("/metrics"); strings.Contains(metrics, "\nmqtt_auth_proxy_log_lost_total 0\n") {
				t.Error("no lost line is counted")
			}
			p.stop()
		})
	}
}

// TestLogOnAFullDisk: a log that cannot be written is lost, nothing else.
func TestLogOnAFullDisk(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "")
	token := p.token("device")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.startOnto("json", full)
	refuse(t, p, 10)
	d := connect(t, dial(t, p.plain), identity(4, "device", token))
	if err := d.publish("a", "b"); err != nil {
		t.Error(err)
	}
	if p.counts("mqtt_auth_proxy_log_lost_total 0") {
		t.Error("no lost line is counted")
	}
	p.stop()
}

// TestLogReaderStalled: devices are refused and served, signals work, and once
// somebody reads again the log says what is missing.
func TestLogReaderStalled(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, "")
			token := p.token("device")
			log := p.startInto(format)
			before := connect(t, dial(t, p.plain), identity(4, "before", token))
			overflow(t, p)
			later := connect(t, dial(t, p.plain), identity(4, "later", token))
			for _, d := range []*device{before, later} {
				if err := d.publish("a", "b"); err != nil {
					t.Error(err)
				}
			}
			if format == "json" {
				p.stop()
				return
			}
			var text bytes.Buffer
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.Copy(&text, log)
			}()
			refuse(t, p, 1)
			p.stop()
			<-read
			for _, want := range []string{"lines of the log were lost", "shutting down", "shut down"} {
				if !strings.Contains(text.String(), want) {
					t.Errorf("the log does not say %q:\n%s", want, excerpt(text.String()))
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

// TestSecondSignalCutsWhileLogReaderIsStalled: what cannot wait for a device does not
// wait for the reader of the log either.
func TestSecondSignalCutsWhileLogReaderIsStalled(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "shutdown: {drain: 10m}\n")
	token := p.token("device")
	p.startInto("json")
	overflow(t, p)
	stuck := connect(t, dial(t, p.plain), identity(5, "stuck", token))
	stuck.subscribe(t, "flood", 0)
	source := connect(t, dial(t, p.plain), identity(5, "source", token))
	for range 32 {
		if err := source.publish("flood", string(make([]byte, 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	p.signal(syscall.SIGTERM)
	eventually(t, "a shutdown", func() bool {
		resp, err := http.Get("http://" + p.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	begun := time.Now()
	p.signal(syscall.SIGTERM)
	if status := p.wait(t, patience); status != 1 {
		t.Errorf("status %d after two signals, want 1", status)
	}
	t.Log("ended after", time.Since(begun).Round(time.Millisecond))
}

// TestCrashDoesNotWaitForLogReader: a supervisor can only start the program again once
// it has ended. SIGQUIT makes the Go runtime end it as a bug would.
func TestCrashDoesNotWaitForLogReader(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "")
	log := p.startInto("json")
	overflow(t, p)
	p.signal(syscall.SIGQUIT)
	if status := p.wait(t, patience); status != 2 {
		t.Errorf("status %d, want 2", status)
	}
	log.Close()

	// With a reader the runtime's words are there to be read.
	log = p.startInto("json")
	var text bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&text, log)
	}()
	p.signal(syscall.SIGQUIT)
	<-read
	if !strings.Contains(text.String(), "SIGQUIT: quit") || !strings.Contains(text.String(), "goroutine ") {
		t.Errorf("the log does not say why:\n%s", excerpt(text.String()))
	}
}

// TestLogCannotFillTheDisk: neither a long client id nor payloads that cannot be
// stored make more than a little log.
func TestLogCannotFillTheDisk(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "")
	p.environ = append(p.environ, "MQTT_AUTH_PROXY_LOG_LEVEL=info")
	token := p.token("device")
	p.start()
	for range 300 {
		conn := dial(t, p.plain)
		exchange(t, conn, string(identity(4, strings.Repeat("é", 30_000), "no-token-of-anybody").Append(nil)), patience)
		conn.Close()
	}
	d := connect(t, dial(t, p.plain), identity(4, strings.Repeat("y", 60_000), token))
	for range 10 {
		if _, err := d.conn.Write(bytes.Repeat([]byte("\x30\x1d\x00\x17v1/devices/me/telemetry{bad"), 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.publish("a", "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a count of what was left out", func() bool {
		_, metrics := p.get("/metrics")
		return strings.Contains(metrics, `mqtt_auth_proxy_log_suppressed_total{message="device sent a payload that cannot be stored",reason=""} 9`)
	})
	d.conn.Close()
	p.awaitLog("the end", func(l logged) bool { return l["message"] == "session end" })
	if size := len(p.stderr.String()); size > 200_000 {
		t.Errorf("%d bytes of log:\n%s", size, excerpt(p.stderr.String()))
	}
}
