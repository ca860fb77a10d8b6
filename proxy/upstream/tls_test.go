package upstream

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// brokerName is the host that tests dial. redirect connects to its listener.
const brokerName = "broker.example"

// redirect connects to ln, whatever the address.
func redirect(ln net.Listener) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, ln.Addr().Network(), ln.Addr().String())
	}
}

// serveTLS runs a broker that completes handshakes and echoes. It sends the name of each client
// certificate, or "none", to clients.
func serveTLS(t testing.TB, config *tls.Config) (ln net.Listener, clients chan string) {
	t.Helper()
	clients = make(chan string, 16)
	ln = serve(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
		secured := tls.Server(conn, config)
		if secured.Handshake() != nil {
			return
		}
		name := "none"
		if peers := secured.ConnectionState().PeerCertificates; len(peers) > 0 {
			name = peers[0].Subject.CommonName
		}
		clients <- name
		echo(secured)
	})
	return ln, clients
}

// tlsDialer returns a dialer for brokerName that connects to ln.
func tlsDialer(t testing.TB, ln net.Listener, options TLSOptions) toServer {
	t.Helper()
	secure, err := LoadTLS(options)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseServer("tls://" + brokerName)
	if err != nil {
		t.Fatal(err)
	}
	return toServer{&Dialer{TLS: secure, connect: redirect(ln)}, s}
}

// dialEcho dials, exchanges data so that session tickets arrive, closes the connection, and
// reports whether the session was resumed.
func dialEcho(t *testing.T, d toServer) (resumed bool) {
	t.Helper()
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	checkEcho(t, conn)
	return conn.(*tls.Conn).ConnectionState().DidResume
}

func TestDialTLS(t *testing.T) {
	ca := newAuthority("ca")
	config := ca.broker(t, brokerName)
	names := make(chan string, 1)
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- hello.ServerName
		return nil, nil
	}
	ln, clients := serveTLS(t, config)
	d := tlsDialer(t, ln, TLSOptions{CA: write(t, t.TempDir(), "ca.pem", ca.PEM())})
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if name := <-names; name != brokerName {
		t.Errorf("the broker was asked for %q", name)
	}
	if name := <-clients; name != "none" {
		t.Errorf("the broker saw the client certificate %q", name)
	}
	if _, ok := conn.(*tls.Conn).NetConn().(*relay.Socket); !ok {
		t.Errorf("TLS runs over a %T", conn.(*tls.Conn).NetConn())
	}
	checkEcho(t, conn)
}

func TestDialTLSByAddress(t *testing.T) {
	ca := newAuthority("ca")
	ln, _ := serveTLS(t, ca.broker(t, "127.0.0.1"))
	secure, err := LoadTLS(TLSOptions{CA: write(t, t.TempDir(), "ca.pem", ca.PEM())})
	if err != nil {
		t.Fatal(err)
	}
	dialEcho(t, toServer{&Dialer{TLS: secure}, server(t, "tls", ln)})
}

func TestDialTLSServerName(t *testing.T) {
	ca := newAuthority("ca")
	ln, _ := serveTLS(t, ca.broker(t, "other.example"))
	path := write(t, t.TempDir(), "ca.pem", ca.PEM())
	dialEcho(t, tlsDialer(t, ln, TLSOptions{CA: path, ServerName: "other.example"}))

	_, err := tlsDialer(t, ln, TLSOptions{CA: path}).Dial(t.Context())
	if err == nil || !strings.Contains(err.Error(), `not for "broker.example"; set the server name`) {
		t.Errorf("got %v", err)
	}
}

func TestDialTLSRefusesBrokers(t *testing.T) {
	ca := newAuthority("ca")
	trusted := write(t, t.TempDir(), "ca.pem", ca.PEM())
	expired, err := tls.X509KeyPair(ca.issue(brokerName, time.Now().Add(-time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	old := ca.broker(t, brokerName)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	answer := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte(text))
		}
	}
	reset := func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	secured := func(config *tls.Config) func(net.Conn) {
		return func(conn net.Conn) { _ = tls.Server(conn, config).Handshake() }
	}
	tests := []struct {
		name   string
		broker func(net.Conn)
		says   string
	}{
		{"unknown authority", secured(newAuthority("ca").broker(t, brokerName)), `certificate for "broker.example" is from an unknown authority; set the CA file`},
		{"expired", secured(&tls.Config{Certificates: []tls.Certificate{expired}}), `certificate for "broker.example" is not valid`},
		{"TLS 1.1", secured(old), "protocol version"},
		{"not TLS", answer("\x20\x02\x00\x01 and more"), "is this its tcp:// port?"},
		{"hangs up", answer(""), "is this its tcp:// port?"},
		{"resets", reset, "is this its tcp:// port?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := tlsDialer(t, serve(t, "tcp", "127.0.0.1:0", tt.broker), TLSOptions{CA: trusted})
			dial, closed := d.connect, 0
			d.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return &closeCounter{conn, &closed}, err
			}
			_, err := d.Dial(t.Context())
			if closed == 0 {
				t.Error("the connection was left open")
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v does not say %q", err, tt.says)
			}
		})
	}
}

// Without options the system's authorities are used, and none of them signed the test's
// certificate.
func TestDialTLSZero(t *testing.T) {
	ln, _ := serveTLS(t, newAuthority("ca").broker(t, brokerName))
	for name, secure := range map[string]*TLS{"nil": nil, "zero": {}} {
		d := tlsDialer(t, ln, TLSOptions{})
		d.TLS = secure
		if _, err := d.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// rotation is a dialer whose certificate files change between connections to a
// broker that asks for a client certificate.
type rotation struct {
	t       *testing.T
	dir     string
	ca      authority
	dialer  toServer
	clients chan string
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	r := &rotation{t: t, dir: t.TempDir(), ca: newAuthority("ca")}
	config := r.ca.broker(t, brokerName)
	// The broker lists authorities that did not sign the client certificate. The certificate
	// must be sent nevertheless.
	config.ClientAuth = tls.RequireAnyClientCert
	config.ClientCAs = newAuthority("another").Pool()
	ln, clients := serveTLS(t, config)
	r.clients = clients
	r.install("first")
	r.dialer = tlsDialer(t, ln, TLSOptions{
		CA:          write(t, r.dir, "ca.pem", r.ca.PEM()),
		Certificate: filepath.Join(r.dir, "client.pem"),
		Key:         filepath.Join(r.dir, "client-key.pem"),
	})
	return r
}

// install stores a new client certificate for name.
func (r *rotation) install(name string) {
	r.t.Helper()
	certificate, key := r.ca.issue(name, time.Now().Add(time.Hour))
	write(r.t, r.dir, "client.pem", certificate)
	write(r.t, r.dir, "client-key.pem", key)
}

// expect connects and checks what the broker saw.
func (r *rotation) expect(step, client string, resumed bool) {
	r.t.Helper()
	if got := dialEcho(r.t, r.dialer); got != resumed {
		r.t.Errorf("%s: resumed %v, want %v", step, got, resumed)
	}
	if got := <-r.clients; got != client {
		r.t.Errorf("%s: the broker saw %q, want %q", step, got, client)
	}
}

func (r *rotation) reload() {
	r.t.Helper()
	if err := r.dialer.TLS.Reload(); err != nil {
		r.t.Fatal(err)
	}
}

// reloadFails reloads and checks that the error contains text.
func (r *rotation) reloadFails(text string) {
	r.t.Helper()
	if err := r.dialer.TLS.Reload(); err == nil || !strings.Contains(err.Error(), text) {
		r.t.Errorf("Reload returned %v, want %q", err, text)
	}
}

func TestTLSClientCertificateChanges(t *testing.T) {
	r := newRotation(t)
	r.expect("first connection", "first", false)
	r.expect("second connection", "first", true)
	r.reload()
	r.expect("after a reload without changes", "first", true)

	r.install("second")
	r.expect("with a new pair", "second", false)
	r.expect("again", "second", true)

	write(t, r.dir, "client.pem", []byte("half a certif"))
	r.expect("with a broken pair", "second", true)
	r.reloadFails("client.pem")
	r.expect("after a failed reload", "second", true)
}

func TestTLSAuthoritiesChange(t *testing.T) {
	r := newRotation(t)
	r.expect("first connection", "first", false)

	write(t, r.dir, "ca.pem", newAuthority("new").PEM())
	r.expect("with new authorities before the reload", "first", true)
	r.reload()
	if _, err := r.dialer.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("with new authorities: got %v", err)
	}

	write(t, r.dir, "ca.pem", r.ca.PEM())
	r.reload()
	r.expect("with the old authorities again", "first", false)

	write(t, r.dir, "ca.pem", nil)
	r.reloadFails("ca.pem: no certificate in it")
	r.expect("after an empty CA file", "first", true)
}

// Handshakes and reloads run concurrently while the files change, for the race detector.
func TestTLSConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority("ca")
	write(t, dir, "ca.pem", ca.PEM())
	certificate, key := ca.issue("client", time.Now().Add(time.Hour))
	write(t, dir, "client.pem", certificate)
	write(t, dir, "key.pem", key)
	secure, err := LoadTLS(TLSOptions{
		CA:          filepath.Join(dir, "ca.pem"),
		Certificate: filepath.Join(dir, "client.pem"),
		Key:         filepath.Join(dir, "key.pem"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 20 {
				config := secure.config(brokerName)
				if pair, err := config.GetClientCertificate(nil); err != nil || pair == nil {
					t.Errorf("no client certificate: %v", err)
				}
				_ = secure.Reload() // may find half a pair
			}
		})
	}
	for range 20 {
		certificate, key := ca.issue("client", time.Now().Add(time.Hour))
		write(t, dir, "client.pem", certificate)
		write(t, dir, "key.pem", key)
	}
	users.Wait()
	if err := secure.Reload(); err != nil {
		t.Error(err)
	}
}

func TestLoadTLSRefuses(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority("ca")
	certificate, key := ca.issue("client", time.Now().Add(time.Hour))
	_, otherKey := ca.issue("other", time.Now().Add(time.Hour))
	junk := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("junk")})
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("junk")})
	certFile := write(t, dir, "client.pem", certificate)
	keyFile := write(t, dir, "key.pem", key)
	keyOf := func(name string, content []byte) TLSOptions {
		return TLSOptions{Certificate: certFile, Key: write(t, dir, name, content)}
	}
	tests := []struct {
		name    string
		options TLSOptions
		says    []string
	}{
		{"no CA file", TLSOptions{CA: filepath.Join(dir, "none.pem")}, []string{"CA file", "none.pem", "no such file"}},
		{"empty CA file", TLSOptions{CA: write(t, dir, "empty.pem", nil)}, []string{"empty.pem", "no certificate in it"}},
		{"key as CA file", TLSOptions{CA: keyFile}, []string{"key.pem", "no certificate in it"}},
		{"junk after a CA", TLSOptions{CA: write(t, dir, "junk.pem", append(ca.PEM(), junk...))}, []string{"junk.pem", "certificate number 2"}},
		{"directory as CA file", TLSOptions{CA: dir}, []string{dir, "not a regular file"}},
		{"huge CA file", TLSOptions{CA: write(t, dir, "huge.pem", make([]byte, maxPEM+1))}, []string{"huge.pem", "more than 1048576 bytes"}},
		{"certificate alone", TLSOptions{Certificate: certFile}, []string{"both"}},
		{"key alone", TLSOptions{Key: keyFile}, []string{"both"}},
		{"no certificate file", TLSOptions{Certificate: filepath.Join(dir, "none.pem"), Key: keyFile}, []string{"client certificate", "none.pem"}},
		{"no key file", TLSOptions{Certificate: certFile, Key: filepath.Join(dir, "none.pem")}, []string{"client certificate and key", "none.pem"}},
		{"swapped", TLSOptions{Certificate: keyFile, Key: certFile}, []string{"key.pem", "client.pem", "switched"}},
		{"pair of strangers", keyOf("other.pem", otherKey), []string{"client.pem", "other.pem", "does not match"}},
		{"encrypted key", keyOf("locked.pem", locked), []string{"locked.pem", "without a passphrase"}},
		{"server name", TLSOptions{ServerName: "https://x"}, []string{"server name", "neither a host name"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			secure, err := LoadTLS(tt.options)
			if err == nil || secure != nil {
				t.Fatalf("got %v, %v", secure, err)
			}
			checkSays(t, err, tt.says...)
		})
	}
	if _, err := LoadTLS(TLSOptions{CA: filepath.Join(dir, "none.pem")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cause is lost: %v", err)
	}
}
