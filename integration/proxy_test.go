//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// proxy is one installation of the program: files and addresses, which outlive a
// restart, and the process that runs on them.
type proxy struct {
	*process
	t                 testing.TB
	data, config      string
	plain, tls, admin string     // host:port
	wrapper           []string   // runs the program, if set
	files             []*os.File // that the program inherits
	environ           []string

	mu        sync.Mutex
	secrets   []string // must never be printed
	processes []*process
}

// newProxy installs the program, without starting it. sections are those of the
// config beside data, listeners, admin and log. When the test ends, so does the
// program, and all that it ever printed is searched for secrets.
func newProxy(t testing.TB, sections string) *proxy {
	t.Helper()
	p := bareProxy(t)
	p.config = filepath.Join(filepath.Dir(p.data), "proxy.yaml")
	text := fmt.Sprintf(`data: %s
listeners:
  - {name: plain, address: '%s'}
  - {name: tls, address: '%s', tls: {auto: true}}
admin: {address: '%s'}
log: {level: debug, format: json}
`, p.data, p.plain, p.tls, p.admin)
	if err := os.WriteFile(p.config, []byte(text+sections), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// bareProxy is an installation without a config file.
func bareProxy(t testing.TB) *proxy {
	t.Helper()
	p := &proxy{
		t: t, data: filepath.Join(t.TempDir(), "data"),
		plain: freeAddress(t), tls: freeAddress(t), admin: freeAddress(t),
		environ: cleanEnvironment(),
	}
	t.Cleanup(p.inspect)
	return p
}

// cleanEnvironment is the environment without what configures the program.
func cleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "MQTT_AUTH_PROXY_") })
}

// lastPort counts up, below the ports that the system hands out by itself, so
// that no connection of another story takes a port between choice and use.
var lastPort atomic.Int32

func freeAddress(t testing.TB) string {
	t.Helper()
	const first, count = 12000, 18000
	for range count {
		port := first + (os.Getpid()*61+int(lastPort.Add(1)))%count
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if ln, err := net.Listen("tcp", address); err == nil {
			ln.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// start runs the program until it serves. It can be called again after stop or
// kill.
func (p *proxy) start() {
	p.t.Helper()
	p.launch()
	p.awaitServing()
}

// awaitServing returns when the program serves.
func (p *proxy) awaitServing() {
	p.t.Helper()
	limit := time.Now().Add(patience)
	for {
		resp, err := http.Get("http://" + p.admin + "/livez")
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-p.exited:
			p.t.Fatalf("ended with status %d at start\n%s%s", p.status, p.stdout, p.stderr)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(limit) {
			p.t.Fatalf("does not serve\n%s%s", p.stdout, p.stderr)
		}
	}
}

// launch runs the program without waiting for it.
func (p *proxy) launch() {
	p.t.Helper()
	argv := append(slices.Clone(p.wrapper), binary, "serve")
	if p.config != "" {
		argv = append(argv, "--config", p.config)
	} else {
		argv = append(argv, "--data", p.data)
	}
	p.process = launchWith(p.t, p.files, p.environ, argv...)
	p.processes = append(p.processes, p.process)
}

// stop asks the program to end, which must be an orderly end.
func (p *proxy) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if status := p.wait(p.t, patience); status != 0 {
		p.t.Errorf("exit status %d after SIGTERM, want 0\n%s", status, excerpt(p.stderr.String()))
	}
}

// inspect ends the program and reads everything that it has printed.
func (p *proxy) inspect() {
	if p.process != nil && p.running() {
		p.stop()
	}
	if token, err := os.ReadFile(filepath.Join(p.data, "admin-token")); err == nil {
		p.keep(strings.TrimSpace(string(token)))
	}
	for _, run := range p.processes {
		for _, fault := range []string{"panic:", "DATA RACE", "a bug ended one connection"} {
			if i := strings.Index(run.stderr.String(), fault); i >= 0 {
				p.t.Errorf("the program reports %q:\n%s", fault, excerpt(run.stderr.String()[i:]))
			}
		}
		for _, secret := range p.secrets {
			if strings.Contains(run.stdout.String()+run.stderr.String(), secret) {
				p.t.Errorf("a secret that begins with %.4s was printed", secret)
			}
		}
		if p.t.Failed() {
			p.t.Logf("the program printed\n%s%s", excerpt(run.stdout.String()), excerpt(run.stderr.String()))
		}
	}
}

func (p *proxy) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// keep remembers what must never be printed.
func (p *proxy) keep(secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secrets = append(p.secrets, secret)
}

// excerpt returns both ends of a long text.
func excerpt(text string) string {
	const most = 4000
	if len(text) > 2*most {
		return text[:most] + "\n...\n" + text[len(text)-most:]
	}
	return text
}

// tokenCommand runs one of the token commands on the installation's token file.
func (p *proxy) tokenCommand(args ...string) result {
	p.t.Helper()
	argv := append([]string{binary, "token"}, args...)
	return command{environ: cleanEnvironment(), argv: append(argv, "--data", p.data)}.run(p.t)
}

// token makes a device and returns its token.
func (p *proxy) token(device string, args ...string) string {
	p.t.Helper()
	return p.newToken(append([]string{"create", device}, args...)...)
}

// newToken runs a command that makes a token, and returns it.
func (p *proxy) newToken(args ...string) string {
	p.t.Helper()
	r := p.tokenCommand(args...)
	token, ok := strings.CutSuffix(r.stdout, "\n")
	if r.status != 0 || !ok || token == "" || strings.ContainsAny(token, " \n") {
		p.t.Fatalf("token %s: status %d\n%s%s", args, r.status, r.stdout, r.stderr)
	}
	p.keep(token)
	return token
}

// authority is the file with the CA certificate that devices are given.
func (p *proxy) authority() string { return filepath.Join(p.data, "tls", "ca-root.pem") }

// clientArgs are the arguments by which mosquitto_pub and mosquitto_sub reach the
// plain listener.
func (p *proxy) clientArgs(token string) []string {
	host, port, _ := net.SplitHostPort(p.plain)
	return []string{"-h", host, "-p", port, "-u", token}
}

// logged is one line of the log.
type logged map[string]any

// String returns a field that is a text, or nothing.
func (l logged) String(field string) string {
	s, _ := l[field].(string)
	return s
}

// awaitLog waits for a line of the log and returns it.
func (p *proxy) awaitLog(what string, match func(logged) bool) logged {
	p.t.Helper()
	var found logged
	p.await(p.t, p.stderr, what+" in the log", func(text string) bool {
		for line := range strings.Lines(text) {
			var l logged
			if json.Unmarshal([]byte(line), &l) == nil && match(l) {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

// request sends a request to the admin side, with its token, and returns status and
// body of the answer. It may run on any goroutine.
func (p *proxy) request(method, path, body string) (int, string) {
	p.t.Helper()
	token, err := os.ReadFile(filepath.Join(p.data, "admin-token"))
	if err != nil {
		p.t.Error(err)
	}
	return send(p.t, method, "http://"+p.admin+path, "Bearer "+strings.TrimSpace(string(token)), body)
}

// get asks the admin side for a page.
func (p *proxy) get(path string) (int, string) {
	p.t.Helper()
	return p.request(http.MethodGet, path, "")
}

// lastReload is what the status says about it.
func (p *proxy) lastReload() string {
	_, body := p.get("/v1/status")
	return body
}

// counts reports whether the metrics have a line.
func (p *proxy) counts(line string) bool {
	p.t.Helper()
	status, metrics := p.get("/metrics")
	return status == http.StatusOK && strings.Contains(metrics, line+"\n")
}

// fetch gets a page.
func fetch(t testing.TB, url, authorization string) (int, string) {
	t.Helper()
	return send(t, http.MethodGet, url, authorization, "")
}

// send sends a request and returns status and body of the answer.
func send(t testing.TB, method, url, authorization, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, strings.TrimSuffix(string(answer), "\n")
}

// eventually asks again and again until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s did not come true", what)
		}
	}
}
