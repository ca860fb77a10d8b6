package harness

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
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

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// Connect connects a device to the plain listener, which must accept its token.
func (p *Proxy) Connect(t testing.TB, level byte, clientID, token string) *packetstest.Client {
	t.Helper()
	return packetstest.Connect(t, packetstest.Dial(t, p.Plain), packetstest.Identity(level, clientID, token))
}

// Present connects a device to the plain listener and returns the answer.
func (p *Proxy) Present(t testing.TB, level byte, clientID, token string) (*packetstest.Client, packets.Connack) {
	t.Helper()
	return packetstest.Present(t, packetstest.Dial(t, p.Plain), packetstest.Identity(level, clientID, token))
}

// DialTLS connects to the TLS listener and trusts the CA certificate of the installation.
func (p *Proxy) DialTLS(t testing.TB) net.Conn {
	t.Helper()
	return tls.Client(packetstest.Dial(t, p.TLS), p.ClientTLS(t))
}

// ClientTLS returns a configuration that trusts the CA certificate of the installation.
func (p *Proxy) ClientTLS(t testing.TB) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(p.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", p.CAFile())
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// PassSockets opens a socket for each name and passes them to the program as systemd
// does. It returns their addresses. The sockets stay open until the test ends.
func (p *Proxy) PassSockets(names ...string) (addresses []string) {
	p.t.Helper()
	for range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() { ln.Close() })
		socket, err := ln.(*net.TCPListener).File()
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() { socket.Close() })
		p.files = append(p.files, socket)
		addresses = append(addresses, ln.Addr().String())
	}
	p.Env = append(p.Env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	p.Wrapper = []string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}
	return addresses
}

// ListenAlso adds listeners, in YAML, to the config. It must be called before Start.
func (p *Proxy) ListenAlso(listeners string) {
	p.t.Helper()
	text, err := os.ReadFile(p.Config)
	if err != nil {
		p.t.Fatal(err)
	}
	changed := strings.Replace(string(text), "admin: ", listeners+"admin: ", 1)
	if err := os.WriteFile(p.Config, []byte(changed), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// Proxy is an installation of the program: its files, its addresses, and the process that
// runs. The installation outlives the process, so that it can be started again.
type Proxy struct {
	*Process
	t                 testing.TB
	Data, Config      string
	Plain, TLS, Admin string     // host:port
	Wrapper           []string   // command that runs the program
	files             []*os.File // inherited by the program
	Env               []string

	mu        sync.Mutex
	Secrets   []string // must never be printed
	Processes []*Process
}

// NewProxy returns an installation that is not started. sections, in YAML, are added to a
// config with data, listeners, admin and log. When the test ends, the program is stopped
// and everything that it has ever printed is searched for secrets.
func NewProxy(t testing.TB, sections string) *Proxy {
	t.Helper()
	p := BareProxy(t)
	p.Config = filepath.Join(filepath.Dir(p.Data), "proxy.yaml")
	text := fmt.Sprintf(`data: %s
listeners:
  - {name: plain, address: '%s'}
  - {name: tls, address: '%s', tls: {auto: true}}
admin: {address: '%s'}
log: {level: debug, format: json}
`, p.Data, p.Plain, p.TLS, p.Admin)
	if err := os.WriteFile(p.Config, []byte(text+sections), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// BareProxy returns an installation without a config file.
func BareProxy(t testing.TB) *Proxy {
	t.Helper()
	p := &Proxy{
		t: t, Data: filepath.Join(t.TempDir(), "data"),
		Plain: FreeAddress(t), TLS: FreeAddress(t), Admin: FreeAddress(t),
		Env: CleanEnvironment(),
	}
	t.Cleanup(p.inspect)
	return p
}

// CleanEnvironment returns the environment without the variables that configure the
// program.
func CleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "MQTT_AUTH_PROXY_") })
}

// lastPort counts up. Ports are below those that the system assigns to connections, so
// that no connection takes a port after it was chosen.
var lastPort atomic.Int32

// FreeAddress returns an address of the loopback interface at which nothing listens.
func FreeAddress(t testing.TB) string {
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

// Start runs the program and returns when it serves. It may be called again after Stop or
// Kill.
func (p *Proxy) Start() {
	p.t.Helper()
	p.Launch()
	p.AwaitServing()
}

// AwaitServing returns when the program serves.
func (p *Proxy) AwaitServing() {
	p.t.Helper()
	limit := time.Now().Add(Patience)
	for {
		resp, err := http.Get("http://" + p.Admin + "/livez")
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-p.Exited:
			p.t.Fatalf("ended with status %d at start\n%s%s", p.status, p.Stdout, p.Stderr)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(limit) {
			p.t.Fatalf("does not serve\n%s%s", p.Stdout, p.Stderr)
		}
	}
}

// Launch runs the program without waiting for it.
func (p *Proxy) Launch() {
	p.t.Helper()
	argv := append(slices.Clone(p.Wrapper), program, "serve")
	if p.Config != "" {
		argv = append(argv, "--config", p.Config)
	} else {
		argv = append(argv, "--data", p.Data)
	}
	p.Process = launchWith(p.t, p.files, p.Env, argv...)
	p.Processes = append(p.Processes, p.Process)
}

// Stop sends SIGTERM and waits for the end of the program, whose exit status must be 0.
func (p *Proxy) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(p.t, Patience); status != 0 {
		p.t.Errorf("exit status %d after SIGTERM, want 0\n%s", status, Excerpt(p.Stderr.String()))
	}
}

// inspect stops the program and searches all that it has printed for secrets and bugs.
func (p *Proxy) inspect() {
	if p.Process != nil && p.Running() {
		p.Stop()
	}
	for _, name := range []string{"admin-token", "admin-read-token", "admin-metrics-token"} {
		if token, err := os.ReadFile(filepath.Join(p.Data, name)); err == nil {
			p.AddSecret(strings.TrimSpace(string(token)))
		}
	}
	for _, run := range p.Processes {
		for _, fault := range []string{"panic:", "DATA RACE", "a bug ended one connection"} {
			if i := strings.Index(run.Stderr.String(), fault); i >= 0 {
				p.t.Errorf("the program reports %q:\n%s", fault, Excerpt(run.Stderr.String()[i:]))
			}
		}
		for _, secret := range p.Secrets {
			if strings.Contains(run.Stdout.String()+run.Stderr.String(), secret) {
				p.t.Errorf("a secret that begins with %.4s was printed", secret)
			}
		}
		if p.t.Failed() {
			p.t.Logf("the program printed\n%s%s", Excerpt(run.Stdout.String()), Excerpt(run.Stderr.String()))
		}
	}
}

// Running reports whether the program runs.
func (p *Proxy) Running() bool {
	select {
	case <-p.Exited:
		return false
	default:
		return true
	}
}

// AddSecret registers a text that the program must never print.
func (p *Proxy) AddSecret(secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Secrets = append(p.Secrets, secret)
}

// Excerpt returns the beginning and the end of a long text.
func Excerpt(text string) string {
	const most = 4000
	if len(text) > 2*most {
		return text[:most] + "\n...\n" + text[len(text)-most:]
	}
	return text
}

// TokenCommand runs a token command on the token file of the installation.
func (p *Proxy) TokenCommand(args ...string) Result {
	p.t.Helper()
	argv := append([]string{program, "token"}, args...)
	return Command{Env: CleanEnvironment(), Args: append(argv, "--data", p.Data)}.Run(p.t)
}

// Token creates a device and returns its token. args are further arguments of the command
// token create.
func (p *Proxy) Token(device string, args ...string) string {
	p.t.Helper()
	return p.NewToken(append([]string{"create", device}, args...)...)
}

// NewToken runs a token command that prints a new token, and returns the token.
func (p *Proxy) NewToken(args ...string) string {
	p.t.Helper()
	r := p.TokenCommand(args...)
	token, ok := strings.CutSuffix(r.Stdout, "\n")
	if r.Status != 0 || !ok || token == "" || strings.ContainsAny(token, " \n") {
		p.t.Fatalf("token %s: status %d\n%s%s", args, r.Status, r.Stdout, r.Stderr)
	}
	p.AddSecret(token)
	return token
}

// CAFile returns the path of the CA certificate of the installation.
func (p *Proxy) CAFile() string { return filepath.Join(p.Data, "tls", "ca-root.pem") }

// ClientArgs returns the arguments with which mosquitto_pub and mosquitto_sub connect to
// the plain listener.
func (p *Proxy) ClientArgs(token string) []string {
	host, port, _ := net.SplitHostPort(p.Plain)
	return []string{"-h", host, "-p", port, "-u", token}
}

// Eventually waits until ok reports true. what names the condition in error messages.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(Patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s did not come true", what)
		}
	}
}

// ConfigWith returns a config with these listeners, each a mapping in YAML's flow style,
// and further sections.
func (p *Proxy) ConfigWith(sections string, listeners ...string) string {
	return fmt.Sprintf("data: %s\nlisteners:\n  - %s\nadmin: {address: '%s'}\nlog: {level: debug, format: json}\n%s",
		p.Data, strings.Join(listeners, "\n  - "), p.Admin, sections)
}

// Reload writes a file, sends SIGHUP, and waits until the metrics count a reload with
// that outcome.
func (p *Proxy) Reload(file, content, outcome string) {
	p.t.Helper()
	name := fmt.Sprintf(`mqtt_auth_proxy_reloads_total{outcome=%q}`, outcome)
	before := Metric(p.t, p, name)
	WriteFile(p.t, file, content)
	p.Signal(syscall.SIGHUP)
	Eventually(p.t, "the "+outcome+" reload", func() bool { return Metric(p.t, p, name) > before })
}

// ListenForWebSocket adds a listener for ws and one for wss, and returns their addresses.
func (p *Proxy) ListenForWebSocket() (ws, wss string) {
	p.t.Helper()
	ws, wss = FreeAddress(p.t), FreeAddress(p.t)
	p.ListenAlso(fmt.Sprintf(`  - {name: ws, address: '%s', websocket: {path: /mqtt, trusted: [127.0.0.1/32]}}
  - {name: wss, address: '%s', tls: {auto: true}, websocket: {}}
`, ws, wss))
	return ws, wss
}
