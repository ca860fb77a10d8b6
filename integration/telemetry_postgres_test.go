//go:build integration

package integration

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// proxyWithPostgres returns an installation whose store is a PostgreSQL database, and the file
// with the DSN.
func proxyWithPostgres(t *testing.T, server *harness.Postgres, dsn string) (p *harness.Proxy, dsnFile string) {
	t.Helper()
	dsnFile = filepath.Join(t.TempDir(), "dsn")
	harness.WriteFile(t, dsnFile, dsn+"\n")
	p = harness.NewProxy(t, "telemetry: {postgres: {dsn_file: '"+dsnFile+"'}}\n")
	p.AddSecret(server.Password)
	return p, dsnFile
}

// awaitReady waits until the program can serve devices.
func awaitReady(t *testing.T, p *harness.Proxy) {
	t.Helper()
	harness.Eventually(t, "readiness", func() bool {
		status, _ := harness.Fetch(t, "http://"+p.Admin+"/readyz", "")
		return status == 200 && p.HasMetric("mqtt_auth_proxy_telemetry_writable 1")
	})
}

// TestPostgresAndProxyAreKilledInTurn: what was acknowledged is in the database, whichever of
// the two was killed under load, and the newest values are right.
func TestPostgresAndProxyAreKilledInTurn(t *testing.T) {
	t.Parallel()
	server := harness.StartPostgres(t)
	server.Database("fleet")
	p, _ := proxyWithPostgres(t, server, server.TLSDSN("fleet"))
	token := p.Token("fleet")
	p.Start()
	awaitReady(t, p)
	all := &fleet{acked: map[string]bool{}}
	next := 0
	for _, kill := range []func(){
		p.Kill,
		func() { server.Kill(); server.Start(); p.Kill() },
		func() { server.CutConnections(); p.Kill() },
		func() { server.Stop(); p.Stop(); server.Start() },
	} {
		first := next
		f := launchFleet(t, p, token, "v1/devices/me/telemetry", func(n int) string { return telemetryPoint(first + n) })
		kill()
		f.running.Wait()
		for payload := range f.acked {
			all.acked[payload] = true
		}
		next += 10_000_000
		p.Start()
		awaitReady(t, p)
		checkStored(t, p, all)
		newest := server.SQL("fleet", "SELECT max(ts) FROM mqtt_auth_proxy.telemetry WHERE device = 'fleet'")
		if status, body := p.Get("/api/plugins/telemetry/DEVICE/fleet/values/timeseries?keys=n"); status != 200 || !strings.Contains(body, `"ts":`+newest+`,`) {
			t.Errorf("the newest value is %d %s, want that of %s", status, body, newest)
		}
	}
}

// TestPostgresAway: without its database the program starts, is not ready, acknowledges nothing,
// and recovers by itself. It never prints the password.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	server := harness.StartPostgres(t)
	p, _ := proxyWithPostgres(t, server, server.Database("fleet"))
	token := p.Token("device")
	server.Stop()
	p.Start()
	if status, body := harness.Fetch(t, "http://"+p.Admin+"/readyz", ""); status != 503 || !strings.Contains(body, "connection refused") {
		t.Errorf("/readyz without the database: %d %s", status, body)
	}
	for _, line := range []string{"mqtt_auth_proxy_telemetry_writable 0", "mqtt_auth_proxy_ready 0"} {
		if !p.HasMetric(line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	d := p.Connect(t, 5, "device", token)
	acked := make(chan error, 1)
	go func() { acked <- d.Publish("v1/devices/me/telemetry", `{"n":1}`) }()
	harness.Eventually(t, "a message that waits", func() bool { return p.HasMetric("mqtt_auth_proxy_telemetry_queued 1") })
	select {
	case err := <-acked:
		t.Errorf("the outcome without the database is %v", err)
	default:
	}
	server.Start()
	awaitReady(t, p)
	if <-acked != nil { // it had waited for too long
		if err := p.Connect(t, 5, "device", token).Publish("v1/devices/me/telemetry", `{"n":1}`); err != nil {
			t.Errorf("with the database: %v", err)
		}
	}
	if got := server.SQL("fleet", "SELECT DISTINCT data FROM mqtt_auth_proxy.telemetry WHERE device = 'device'"); got != `{"n":1}` {
		t.Errorf("stored: %s", got)
	}
	server.CutConnections()
	awaitReady(t, p)
}

// TestSharedAttributesReachDevicesAtTheOtherProxy: two proxies share a database and a bus. What an
// operator sets and deletes at one of them comes to a device at the other.
func TestSharedAttributesReachDevicesAtTheOtherProxy(t *testing.T) {
	t.Parallel()
	server := harness.StartPostgres(t)
	dsn := fileWith(t, server.Database("fleet"))
	secret := fileWith(t, rand.Text()+rand.Text())
	var proxies []*harness.Proxy
	for i := range 2 {
		p := harness.NewProxy(t, fmt.Sprintf("telemetry: {postgres: {dsn_file: '%[1]s'}}\n"+
			"replicas: {bus: postgres, secret_file: '%s', name: proxy-%d, dsn_file: '%[1]s'}\n", dsn, secret, i))
		p.AddSecret(server.Password)
		proxies = append(proxies, p)
	}
	token := proxies[1].Token("pump-7")
	for _, p := range proxies {
		p.Start()
		awaitReady(t, p)
	}
	harness.Eventually(t, "the proxies hear each other", func() bool {
		return proxies[0].HasMetric("mqtt_auth_proxy_replicas_heard 1") && proxies[1].HasMetric("mqtt_auth_proxy_replicas_heard 1")
	})
	device := proxies[1].Connect(t, 5, "device", token)
	device.MustSubscribe("v1/devices/me/attributes", 1)
	expect := func(want string) {
		t.Helper()
		if m, err := device.Next(harness.Patience); err != nil || string(m.Payload) != want {
			t.Fatalf("the device gets %s, error %v, want %s", m.Payload, err, want)
		}
	}
	const attributes = "/api/plugins/telemetry/DEVICE/pump-7/SHARED_SCOPE"
	if status, body := proxies[0].Request("POST", attributes, `{"interval": 30}`); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	expect(`{"interval":30}`)
	if status, body := proxies[0].Request("DELETE", attributes+"?keys=interval", ""); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	expect(`{"deleted":["interval"]}`)
}

// TestTwoProxiesFailOver: two programs store in one database and answer alike. When it moves to
// another server with the same data, they follow the DSN without a restart.
func TestTwoProxiesFailOver(t *testing.T) {
	t.Parallel()
	first, second := harness.StartPostgres(t), harness.StartPostgres(t)
	dsn := first.Database("fleet")
	a, fileOfA := proxyWithPostgres(t, first, dsn)
	b, fileOfB := proxyWithPostgres(t, first, first.SocketDSN("fleet"))
	proxies := []*harness.Proxy{a, b}
	tokens := make([]string, len(proxies))
	for i, p := range proxies {
		p.AddSecret(second.Password)
		tokens[i] = p.Token("shared")
		p.Start()
		awaitReady(t, p)
	}
	publish := func(n int) {
		t.Helper()
		for i, p := range proxies {
			d := p.Connect(t, 5, "device", tokens[i])
			if err := d.Publish("v1/devices/me/telemetry", fmt.Sprintf(`{"ts":%d,"values":{"n%d":%d}}`, firstPoint+int64(n), i, n)); err != nil {
				t.Errorf("proxy %d: %v", i, err)
			}
			d.Close()
		}
	}
	read := func(n int) {
		t.Helper()
		want := fmt.Sprintf(`{"n0":[{"ts":%[1]d,"value":%[2]d}],"n1":[{"ts":%[1]d,"value":%[2]d}]}`, firstPoint+int64(n), n)
		for i, p := range proxies {
			var body string
			harness.Eventually(t, "the values of both in each", func() bool {
				_, body = p.Get("/api/plugins/telemetry/DEVICE/shared/values/timeseries?keys=n0,n1&useStrictDataTypes=true")
				return body == want
			})
			path := fmt.Sprintf("/api/plugins/telemetry/DEVICE/shared/values/timeseries?keys=n0,n1&useStrictDataTypes=true&limit=1&startTs=%d&endTs=%d", firstPoint, firstPoint+1000)
			if _, body := p.Get(path); body != want {
				t.Errorf("proxy %d answers %s, want %s", i, body, want)
			}
		}
	}
	publish(1)
	read(1)
	moved := second.Database("fleet")
	dump := filepath.Join(t.TempDir(), "dump.sql")
	run := func(argv ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", argv[0], err, out)
		}
	}
	run(harness.Need(t, "pg_dump"), "-d", dsn, "-f", dump)
	run(harness.Need(t, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", moved, "-f", dump)
	for _, file := range []string{fileOfA, fileOfB} {
		if err := os.WriteFile(file, []byte(moved+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first.Stop()
	for _, p := range proxies {
		awaitReady(t, p)
	}
	publish(2)
	read(2)
	if n := second.SQL("fleet", "SELECT count(*) FROM mqtt_auth_proxy.telemetry WHERE device = 'shared'"); n != "2" {
		t.Errorf("the second server has %s messages, want 2", n)
	}
}
