//go:build integration

package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// serial returns the serial number of the certificate of a listener.
func serial(t testing.TB, address string) int64 {
	t.Helper()
	conn := tls.Client(packetstest.Dial(t, address), &tls.Config{InsecureSkipVerify: true})
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestCertificateReplacedUnderLoad: a new certificate without its key changes nothing.
// With its key it is shown to new connections. Sessions are not affected.
func TestCertificateReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, "")
	token := p.Token("thermometer")
	certificate, key := filepath.Join(t.TempDir(), "server.pem"), filepath.Join(t.TempDir(), "server-key.pem")
	cert1, key1 := harness.ServerCertificate(1)
	cert2, key2 := harness.ServerCertificate(2)
	harness.WriteFile(t, certificate, cert1)
	harness.WriteFile(t, key, key1)
	harness.WriteFile(t, p.Config, p.ConfigWith(s.Upstream(), fmt.Sprintf("{name: tls, address: '%s', tls: {certificate: %s, key: %s}}", p.TLS, certificate, key)))
	p.Start()

	const devices = 20
	var published atomic.Int64
	var done sync.WaitGroup
	stop := make(chan struct{})
	for i := range devices {
		conn := tls.Client(packetstest.Dial(t, p.TLS), &tls.Config{InsecureSkipVerify: true})
		d := packetstest.Connect(t, conn, packetstest.Identity(4+byte(i%2), fmt.Sprintf("d%d", i), token))
		done.Go(func() {
			for {
				if err := d.Publish("a", "b"); err != nil {
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
		harness.Eventually(t, "more messages", func() bool { return published.Load() > before+2*devices })
	}
	goOn()

	p.Reload(certificate, cert2, "failed")
	p.AwaitLog("refusal of half a pair", func(l harness.LogLine) bool { return strings.Contains(l.String("error"), "do not match") })
	if n := serial(t, p.TLS); n != 1 {
		t.Errorf("after half a pair: certificate %d, want 1", n)
	}
	goOn()
	p.Reload(key, key2, "applied")
	if n := serial(t, p.TLS); n != 2 {
		t.Errorf("after the whole pair: certificate %d, want 2", n)
	}
	goOn()
	close(stop)
	done.Wait()
	if n := harness.Metric(t, p, "mqtt_auth_proxy_sessions"); n != devices {
		t.Errorf("%v sessions live, want %d", n, devices)
	}
	t.Logf("%d messages acknowledged", published.Load())
}

// TestBrokenConfig: a mistake in the config changes nothing, and the log says where it
// is. The corrected config takes effect.
func TestBrokenConfig(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	token := p.Token("thermometer")
	p.Start()
	live := p.Connect(t, 5, "live", token)
	good := harness.ReadFile(t, p.Config)
	second := harness.FreeAddress(t)

	// The listener in it is valid, but must not be opened.
	listener := fmt.Sprintf("listeners:\n  - {name: second, address: '%s'}\n", second)
	broken := strings.Replace(good, "listeners:\n", listener, 1) + "limits:\n  conections: 5\n"
	p.Reload(p.Config, broken, "failed")
	place := fmt.Sprintf("%s:%d: limits.conections: is an unknown key; did you mean connections?", p.Config, strings.Count(broken, "\n"))
	p.AwaitLog("place of the mistake", func(l harness.LogLine) bool {
		return l.String("level") == "error" && strings.Contains(l.String("error"), place)
	})
	if _, status := p.Get("/v1/status"); !strings.Contains(status, "limits.conections") || !strings.Contains(status, `"outcome":"failed"`) {
		t.Errorf("the status has %s", status)
	}
	if !p.HasMetric("mqtt_auth_proxy_config_last_reload_successful 0") {
		t.Error("no metric to alert on")
	}
	if conn, err := net.Dial("tcp", second); err == nil {
		conn.Close()
		t.Error("half of a bad config is in force")
	}
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("a live session: %v", err)
	}
	p.Connect(t, 4, "again", token)

	p.Reload(p.Config, strings.Replace(broken, "conections", "connections", 1), "applied")
	packetstest.Connect(t, packetstest.Dial(t, second), packetstest.Identity(4, "second", token))
	if _, status := p.Get("/v1/status"); strings.Contains(status, "limits.conections") {
		t.Errorf("the corrected mistake is still in the status: %s", status)
	}
	if !p.HasMetric("mqtt_auth_proxy_config_last_reload_successful 1") {
		t.Error("the metric does not recover")
	}
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("a live session after the corrected config: %v", err)
	}

	p.Reload(p.Config, strings.Replace(good, "data: ", "data: /elsewhere", 1), "failed")
	p.AwaitLog("key that needs a restart", func(l harness.LogLine) bool {
		return strings.Contains(l.String("error"), p.Config+":1: data: has changed and needs a restart")
	})
}

// TestListenersComeAndGo: sessions continue after their listener was removed, and a
// listener can change from plain to TLS at the same address.
func TestListenersComeAndGo(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, "")
	token := p.Token("thermometer")
	plain, secure := fmt.Sprintf("{name: plain, address: '%s'}", p.Plain), fmt.Sprintf("{name: tls, address: '%s', tls: {auto: true}}", p.TLS)
	harness.WriteFile(t, p.Config, p.ConfigWith(s.Upstream(), plain))
	p.Start()
	first := p.Connect(t, 5, "first", token)

	p.Reload(p.Config, p.ConfigWith(s.Upstream(), plain, secure), "applied")
	second := packetstest.Connect(t, p.DialTLS(t), packetstest.Identity(5, "second", token))

	p.Reload(p.Config, p.ConfigWith(s.Upstream(), secure), "applied")
	if conn, err := net.Dial("tcp", p.Plain); err == nil {
		conn.Close()
		t.Error("the removed listener still accepts")
	}
	for name, d := range map[string]*packetstest.Client{"the removed listener": first, "the other": second} {
		if err := d.Publish("a", "b"); err != nil {
			t.Errorf("a session of %s: %v", name, err)
		}
	}

	p.Reload(p.Config, p.ConfigWith(s.Upstream(), strings.Replace(secure, "tls: {auto: true}", "tls: {auto: true, min_version: '1.3'}", 1), plain), "applied")
	p.Connect(t, 4, "third", token)
	old := tls.Client(packetstest.Dial(t, p.TLS), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err := old.Handshake(); err == nil {
		t.Error("TLS 1.2 is accepted after min_version: 1.3")
	}
	if err := second.Publish("a", "b"); err != nil {
		t.Errorf("a session of the changed listener: %v", err)
	}
	p.TokenCommand("revoke", "thermometer")
	for name, d := range map[string]*packetstest.Client{"the removed listener": first, "the changed one": second} {
		if code, err := d.AwaitEnd(harness.Patience); err != nil || code != 0x98 {
			t.Errorf("a session of %s after its token is revoked: %v, %v", name, code, err)
		}
	}
}

// TestTicketsAcrossProcesses: a device resumes its TLS session at another process with
// the same ticket secret, and at no other.
func TestTicketsAcrossProcesses(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	dir := t.TempDir()
	cert, key := harness.ServerCertificate(7)
	harness.WriteFile(t, filepath.Join(dir, "server.pem"), cert)
	harness.WriteFile(t, filepath.Join(dir, "server-key.pem"), key)
	replica := func(secret string) (*harness.Proxy, string) {
		p := harness.NewProxy(t, "")
		token := p.Token("thermometer")
		p.AddSecret(secret)
		file := filepath.Join(t.TempDir(), "tickets")
		harness.WriteFile(t, file, secret+"\n")
		harness.WriteFile(t, p.Config, p.ConfigWith(s.Upstream(), fmt.Sprintf("{name: tls, address: '%s', tls: {certificate: %[2]s/server.pem, key: %[2]s/server-key.pem, ticket_secret_file: %s}}", p.TLS, dir, file)))
		p.Start()
		return p, token
	}
	shared := strings.Repeat("shared-", 5)
	one, token := replica(shared)
	two, _ := replica(shared)
	three, _ := replica(strings.Repeat("another-", 5))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(1)
		config := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: cache, MaxVersion: version}
		// The tickets of TLS 1.3 come after the handshake.
		packetstest.Connect(t, tls.Client(packetstest.Dial(t, one.TLS), config), packetstest.Identity(4, "d", token))
		for _, at := range []struct {
			*harness.Proxy
			resumes bool
		}{{two, true}, {three, false}} {
			conn := tls.Client(packetstest.Dial(t, at.TLS), config)
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

// TestMountedConfig: Kubernetes changes a mounted directory by replacing one link above
// all files, and sends no signal.
func TestMountedConfig(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, "")
	token := p.Token("thermometer")
	mount, second := t.TempDir(), harness.FreeAddress(t)
	publish := func(version, serial int64, listeners ...string) {
		dir := fmt.Sprintf("..v%d", version)
		if err := os.Mkdir(filepath.Join(mount, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		cert, key := harness.ServerCertificate(serial)
		harness.WriteFile(t, filepath.Join(mount, dir, "server.pem"), cert)
		harness.WriteFile(t, filepath.Join(mount, dir, "server-key.pem"), key)
		harness.WriteFile(t, filepath.Join(mount, dir, "proxy.yaml"), p.ConfigWith(s.Upstream(), listeners...))
		if err := os.Symlink(dir, filepath.Join(mount, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	secure := fmt.Sprintf("{name: tls, address: '%s', tls: {certificate: server.pem, key: server-key.pem}}", p.TLS)
	publish(1, 1, secure)
	for _, name := range []string{"proxy.yaml", "server.pem", "server-key.pem"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(mount, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.Config = filepath.Join(mount, "proxy.yaml")
	p.Start()
	live := packetstest.Connect(t, tls.Client(packetstest.Dial(t, p.TLS), &tls.Config{InsecureSkipVerify: true}), packetstest.Identity(5, "live", token))

	publish(2, 2, secure, fmt.Sprintf("{name: second, address: '%s'}", second))
	swapped := time.Now()
	harness.Eventually(t, "the listener of the new config", func() bool {
		conn, err := net.Dial("tcp", second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	harness.Eventually(t, "the new certificate", func() bool { return serial(t, p.TLS) == 2 })
	t.Logf("taken up after %v", time.Since(swapped).Round(100*time.Millisecond))
	packetstest.Connect(t, packetstest.Dial(t, second), packetstest.Identity(4, "second", token))
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("a live session: %v", err)
	}
}
