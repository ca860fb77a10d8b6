//go:build integration

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listening returns a config whose listeners a story chooses, one flow mapping each.
func (p *proxy) listening(sections string, listeners ...string) string {
	return fmt.Sprintf("data: %s\nlisteners:\n  - %s\nadmin: {address: '%s'}\nlog: {level: debug, format: json}\n%s",
		p.data, strings.Join(listeners, "\n  - "), p.admin, sections)
}

// hangUp writes a file, sends SIGHUP, and waits for the reload that follows to end so.
func (p *proxy) hangUp(file, content, outcome string) {
	p.t.Helper()
	name := fmt.Sprintf(`mqtt_auth_proxy_reloads_total{outcome=%q}`, outcome)
	before := metric(p.t, p, name)
	write(p.t, file, content)
	p.signal(syscall.SIGHUP)
	eventually(p.t, "the "+outcome+" reload", func() bool { return metric(p.t, p, name) > before })
}

// certificatePair returns a self-signed certificate for localhost with that serial
// number, and its key.
func certificatePair(t testing.TB, serial int64) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", secret)
}

// serial returns the number of the certificate that a listener shows.
func serial(t testing.TB, address string) int64 {
	t.Helper()
	conn := tls.Client(dial(t, address), &tls.Config{InsecureSkipVerify: true})
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestCertificateReplacedUnderLoad: half of a new pair changes nothing, the whole pair
// is shown to who comes next, and who is connected notices neither.
func TestCertificateReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	p := newProxy(t, "")
	token := p.token("thermometer")
	certificate, key := filepath.Join(t.TempDir(), "server.pem"), filepath.Join(t.TempDir(), "server-key.pem")
	cert1, key1 := certificatePair(t, 1)
	cert2, key2 := certificatePair(t, 2)
	write(t, certificate, cert1)
	write(t, key, key1)
	write(t, p.config, p.listening(s.upstream(), fmt.Sprintf("{name: tls, address: '%s', tls: {certificate: %s, key: %s}}", p.tls, certificate, key)))
	p.start()

	const devices = 20
	var published atomic.Int64
	var done sync.WaitGroup
	stop := make(chan struct{})
	for i := range devices {
		conn := tls.Client(dial(t, p.tls), &tls.Config{InsecureSkipVerify: true})
		d := connect(t, conn, identity(4+byte(i%2), fmt.Sprintf("d%d", i), token))
		done.Go(func() {
			for {
				if err := d.publish("a", "b"); err != nil {
					t.Errorf("device %d: %v", i, err)
					return
				}
				published.Add(1)
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	goOn := func() {
		t.Helper()
		before := published.Load()
		eventually(t, "more messages", func() bool { return published.Load() > before+2*devices })
	}
	goOn()

	p.hangUp(certificate, cert2, "failed")
	p.awaitLog("refusal of half a pair", func(l logged) bool { return strings.Contains(l.String("error"), "do not match") })
	if n := serial(t, p.tls); n != 1 {
		t.Errorf("after half a pair: certificate %d, want 1", n)
	}
	goOn()
	p.hangUp(key, key2, "applied")
	if n := serial(t, p.tls); n != 2 {
		t.Errorf("after the whole pair: certificate %d, want 2", n)
	}
	goOn()
	close(stop)
	done.Wait()
	if n := metric(t, p, "mqtt_auth_proxy_sessions"); n != devices {
		t.Errorf("%v sessions live, want %d", n, devices)
	}
	t.Logf("%d messages acknowledged", published.Load())
}

// TestBrokenConfig: a mistake in the config changes nothing, is told where it is, and
// mending it is enough.
func TestBrokenConfig(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	p := newProxy(t, s.upstream())
	token := p.token("thermometer")
	p.start()
	live := connect(t, dial(t, p.plain), identity(5, "live", token))
	good := read(t, p.config)
	second := freeAddress(t)

	// The listener in it is a good one, and yet must not be opened.
	listener := fmt.Sprintf("listeners:\n  - {name: second, address: '%s'}\n", second)
	broken := strings.Replace(good, "listeners:\n", listener, 1) + "limits:\n  conections: 5\n"
	p.hangUp(p.config, broken, "failed")
	place := fmt.Sprintf("%s:%d: limits.conections: is an unknown key; did you mean connections?", p.config, strings.Count(broken, "\n"))
	p.awaitLog("place of the mistake", func(l logged) bool {
		return l.String("level") == "error" && strings.Contains(l.String("error"), place)
	})
	if _, status := p.get("/v1/status"); !strings.Contains(status, "limits.conections") || !strings.Contains(status, `"outcome":"failed"`) {
		t.Errorf("the status has %s", status)
	}
	if !p.counts("mqtt_auth_proxy_config_last_reload_successful 0") {
		t.Error("no metric to alert on")
	}
	if conn, err := net.Dial("tcp", second); err == nil {
		conn.Close()
		t.Error("half of a bad config is in force")
	}
	if err := live.publish("a", "b"); err != nil {
		t.Errorf("a live session: %v", err)
	}
	connect(t, dial(t, p.plain), identity(4, "again", token))

	p.hangUp(p.config, strings.Replace(broken, "conections", "connections", 1), "applied")
	connect(t, dial(t, second), identity(4, "second", token))
	if _, status := p.get("/v1/status"); strings.Contains(status, "limits.conections") {
		t.Errorf("the mended mistake is still in the status: %s", status)
	}
	if !p.counts("mqtt_auth_proxy_config_last_reload_successful 1") {
		t.Error("the metric does not recover")
	}
	if err := live.publish("a", "b"); err != nil {
		t.Errorf("a live session after the mended config: %v", err)
	}

	p.hangUp(p.config, strings.Replace(good, "data: ", "data: /elsewhere", 1), "failed")
	p.awaitLog("key that needs a restart", func(l logged) bool {
		return strings.Contains(l.String("error"), p.config+":1: data: has changed and needs a restart")
	})
}

// TestListenersComeAndGo: sessions outlive their listener, and a listener changes from
// plain to TLS where it is.
func TestListenersComeAndGo(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	p := newProxy(t, "")
	token := p.token("thermometer")
	plain, secure := fmt.Sprintf("{name: plain, address: '%s'}", p.plain), fmt.Sprintf("{name: tls, address: '%s', tls: {auto: true}}", p.tls)
	write(t, p.config, p.listening(s.upstream(), plain))
	p.start()
	first := connect(t, dial(t, p.plain), identity(5, "first", token))

	p.hangUp(p.config, p.listening(s.upstream(), plain, secure), "applied")
	second := connect(t, p.dialTLS(t), identity(5, "second", token))

	p.hangUp(p.config, p.listening(s.upstream(), secure), "applied")
	if conn, err := net.Dial("tcp", p.plain); err == nil {
		conn.Close()
		t.Error("the removed listener still accepts")
	}
	for name, d := range map[string]*device{"the removed listener": first, "the other": second} {
		if err := d.publish("a", "b"); err != nil {
			t.Errorf("a session of %s: %v", name, err)
		}
	}

	p.hangUp(p.config, p.listening(s.upstream(), strings.Replace(secure, "tls: {auto: true}", "tls: {auto: true, min_version: '1.3'}", 1), plain), "applied")
	connect(t, dial(t, p.plain), identity(4, "third", token))
	old := tls.Client(dial(t, p.tls), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err := old.Handshake(); err == nil {
		t.Error("TLS 1.2 is accepted after min_version: 1.3")
	}
	if err := second.publish("a", "b"); err != nil {
		t.Errorf("a session of the changed listener: %v", err)
	}
	p.tokenCommand("revoke", "thermometer")
	for name, d := range map[string]*device{"the removed listener": first, "the changed one": second} {
		if code, err := d.farewell(patience); err != nil || code != 0x98 {
			t.Errorf("a session of %s after its token is revoked: %v, %v", name, code, err)
		}
	}
}

// TestTicketsAcrossProcesses: a device resumes its TLS session at another replica that
// has the same ticket secret, and at no other.
func TestTicketsAcrossProcesses(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	dir := t.TempDir()
	cert, key := certificatePair(t, 7)
	write(t, filepath.Join(dir, "server.pem"), cert)
	write(t, filepath.Join(dir, "server-key.pem"), key)
	replica := func(secret string) (*proxy, string) {
		p := newProxy(t, "")
		token := p.token("thermometer")
		p.keep(secret)
		file := filepath.Join(t.TempDir(), "tickets")
		write(t, file, secret+"\n")
		write(t, p.config, p.listening(s.upstream(), fmt.Sprintf("{name: tls, address: '%s', tls: {certificate: %[2]s/server.pem, key: %[2]s/server-key.pem, ticket_secret_file: %s}}", p.tls, dir, file)))
		p.start()
		return p, token
	}
	shared := strings.Repeat("shared-", 5)
	one, token := replica(shared)
	two, _ := replica(shared)
	three, _ := replica(strings.Repeat("another-", 5))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(1)
		config := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: cache, MaxVersion: version}
		// The tickets of TLS 1.3 come with the first bytes after the handshake.
		connect(t, tls.Client(dial(t, one.tls), config), identity(4, "d", token))
		for _, at := range []struct {
			*proxy
			resumes bool
		}{{two, true}, {three, false}} {
			conn := tls.Client(dial(t, at.tls), config)
			if err := conn.Handshake(); err != nil {
				t.Fatal(err)
			}
			if got := conn.ConnectionState().DidResume; got != at.resumes {
				t.Errorf("%s: resumed %v, want %v", tls.VersionName(version), got, at.resumes)
			}
			conn.Close()
		}
	}
}

// TestMountedConfig: a directory that Kubernetes mounts changes by the swap of one link
// above all of its files, and nobody sends a signal.
func TestMountedConfig(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	p := newProxy(t, "")
	token := p.token("thermometer")
	mount, second := t.TempDir(), freeAddress(t)
	publish := func(version, serial int64, listeners ...string) {
		dir := fmt.Sprintf("..v%d", version)
		if err := os.Mkdir(filepath.Join(mount, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		cert, key := certificatePair(t, serial)
		write(t, filepath.Join(mount, dir, "server.pem"), cert)
		write(t, filepath.Join(mount, dir, "server-key.pem"), key)
		write(t, filepath.Join(mount, dir, "proxy.yaml"), p.listening(s.upstream(), listeners...))
		if err := os.Symlink(dir, filepath.Join(mount, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	secure := fmt.Sprintf("{name: tls, address: '%s', tls: {certificate: server.pem, key: server-key.pem}}", p.tls)
	publish(1, 1, secure)
	for _, name := range []string{"proxy.yaml", "server.pem", "server-key.pem"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(mount, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.config = filepath.Join(mount, "proxy.yaml")
	p.start()
	live := connect(t, tls.Client(dial(t, p.tls), &tls.Config{InsecureSkipVerify: true}), identity(5, "live", token))

	publish(2, 2, secure, fmt.Sprintf("{name: second, address: '%s'}", second))
	swapped := time.Now()
	eventually(t, "the listener of the new config", func() bool {
		conn, err := net.Dial("tcp", second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	eventually(t, "the new certificate", func() bool { return serial(t, p.tls) == 2 })
	t.Logf("taken up after %v", time.Since(swapped).Round(100*time.Millisecond))
	connect(t, dial(t, second), identity(4, "second", token))
	if err := live.publish("a", "b"); err != nil {
		t.Errorf("a live session: %v", err)
	}
}
