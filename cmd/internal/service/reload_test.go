package service

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// edit replaces the service's config file by the text.
func edit(t *testing.T, s *Service, yaml string) {
	t.Helper()
	if err := os.WriteFile(s.Config.Path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
}

func reload(t *testing.T, s *Service) error {
	t.Helper()
	return s.reloader.now(t.Context(), s, "test")
}

// alive reports whether a session answers.
func alive(t *testing.T, nc net.Conn) bool {
	t.Helper()
	if _, err := nc.Write([]byte{0xC0, 0}); err != nil {
		return false
	}
	answer := make([]byte, 2)
	_, err := io.ReadFull(nc, answer)
	return err == nil && answer[0] == 0xD0
}

func TestListenersComeAndGo(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	old, _ := login(t, s, asDemo(s, 4))
	first := s.current.Load().listeners[0]

	edit(t, s, `
listeners: [{address: "127.0.0.1:0", name: renamed, tls: {auto: true}}, {address: "127.0.0.2:0", name: second}]
admin: {address: "127.0.0.1:0"}
limits: {sessions_per_subject: 1, over_limit: refuse}
`)
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	in := s.current.Load()
	if in.listeners[0].socket != first.socket {
		t.Error("the same address has got another socket")
	}
	if !alive(t, old) {
		t.Error("a live session has not survived")
	}
	p := asDemo(s, 5)
	p.ClientID = "another"
	_, ack := packetstest.Present(t, packetstest.Dial(t, in.listeners[1].Addr().String()), &p)
	if ack.Code != packets.ServerBusy {
		t.Errorf("got %v: the new limits are not in force", ack.Code)
	}
	if _, body := get(t, s, "/metrics"); !strings.Contains(body, `certificate_expiry_timestamp_seconds{listener="renamed"}`) {
		t.Error("no expiry of the certificate that came with the reload")
	}

	second := in.listeners[1].Addr().String()
	edit(t, s, bundledConfig)
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if nc, err := net.Dial("tcp", second); err == nil {
		nc.Close()
		t.Error("a listener that is gone still accepts")
	}
	if !alive(t, old) {
		t.Error("a live session has not survived the second reload")
	}
	if _, ack := login(t, s, asDemo(s, 4)); ack.Code != packets.Success {
		t.Errorf("the plain listener is not what it was: CONNACK %v", ack.Code)
	}
}

func TestBadConfigChangesNothing(t *testing.T) {
	s, log := startService(t, bundledConfig)
	old, _ := login(t, s, asDemo(s, 4))
	before := s.current.Load()
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.Config.Path), "short"), []byte("too short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ yaml, want string }{
		"typing mistake": {"listenerz: []\n", "proxy.yaml:1: listenerz: is an unknown key"},
		"not YAML":       {"listeners: [\n", "proxy.yaml:"},
		"empty":          {"\n# nothing\n", "the file has no keys"},
		"restart":        {bundledConfig + "data: elsewhere\n", "proxy.yaml:5: data: has changed and needs a restart"},
		"write timeout":  {bundledConfig + "limits: {write_timeout: 2s}\n", "proxy.yaml:5: limits.write_timeout: has changed and needs a restart"},
		"other broker":   {bundledConfig + "upstream: {servers: ['tcp://127.0.0.1:1']}\n", "upstream.servers: has changed and needs a restart"},
		"no certificate": {bundledConfig + "connect: {timeout: 1s}\n" + "auth: {sources: [{file: {path: /nowhere/tokens}}]}\n", "proxy.yaml:6: auth.sources[0].file: there is no token file"},
		"no client CA":   {strings.Replace(bundledConfig, `:0"}]`, `:0", tls: {auto: true, client_ca: none.pem, client_auth: require}}]`, 1), "listeners[0].tls: "},
		"taken":          {strings.Replace(bundledConfig, `}]`, `}, {address: "`+before.listeners[0].Addr().String()+`"}]`, 1), "proxy.yaml:2: listeners[1].address: "},
		"short secret":   {strings.Replace(bundledConfig, `admin: {`, `admin: {push_secret_file: short, `, 1), "proxy.yaml:3: admin.push_secret_file: "},
		"no place":       {strings.Replace(bundledConfig, `admin: {`, `admin: {token_file: /dev/null/x, `, 1), "proxy.yaml:3: admin.token_file: "},
	} {
		edit(t, s, tt.yaml)
		err := reload(t, s)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if s.current.Load() != before {
			t.Fatalf("%s: something is in force that was not before", name)
		}
		if _, body := get(t, s, "/v1/status"); !strings.Contains(body, `"outcome":"failed"`) {
			t.Errorf("%s: the status has %s", name, body)
		}
	}
	if !alive(t, old) {
		t.Error("a live session has not survived")
	}
	if _, body := get(t, s, "/metrics"); !strings.Contains(body, "mqtt_auth_proxy_config_last_reload_successful 0\n") {
		t.Error("no metric shows the failure")
	}
	edit(t, s, bundledConfig)
	if err := reload(t, s); err != nil {
		t.Errorf("corrected: %v", err)
	}
	if _, body := get(t, s, "/metrics"); !strings.Contains(body, "mqtt_auth_proxy_config_last_reload_successful 1\n") {
		t.Error("no metric shows that the fault is gone")
	}
	if strings.Contains(log.String(), s.demo.token.Reveal()) {
		t.Error("the log has the token")
	}
}

// TestPollLogsAFaultOnce: the poll logs a fault when it finds it, and when it is gone.
func TestPollLogsAFaultOnce(t *testing.T) {
	s, log := startService(t, bundledConfig)
	poll := func() { s.reloader.poll(t.Context(), s) }
	poll()
	edit(t, s, "listenerz: []\n")
	poll()
	poll()
	if n := strings.Count(log.String(), "listenerz"); n != 1 {
		t.Errorf("the fault is logged %d times", n)
	}
	edit(t, s, bundledConfig)
	poll()
	poll()
	if last := s.reloader.last.Load(); last.Outcome != observe.ReloadUnchanged || last.By != byPoll {
		t.Errorf("corrected, but the status is %+v", last)
	}
	edit(t, s, bundledConfig+"connect: {timeout: 3s}\n")
	poll()
	if got := s.current.Load().policy.ConnectTimeout.Seconds(); got != 3 {
		t.Errorf("the timeout is %v s", got)
	}
}

func TestAdminSideMovesAndItsTokenChanges(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	before := s.current.Load().admin.socket.Addr().String()
	edit(t, s, strings.Replace(bundledConfig, `admin: {address: "127.0.0.1:0"}`, `admin: {address: "127.0.0.2:0", token_file: second-token}`, 1))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if nc, err := net.Dial("tcp", before); err == nil {
		nc.Close()
		t.Error("the old address still accepts")
	}
	if status, body := get(t, s, "/v1/status"); status != 200 || !strings.Contains(body, `"outcome":"applied"`) {
		t.Errorf("status %d, %s", status, body)
	}
	if err := os.WriteFile(s.current.Load().config.Admin.TokenFile, []byte(strings.Repeat("n", 20)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reloader.poll(t.Context(), s)
	if status, _ := get(t, s, "/v1/status"); status != 200 {
		t.Errorf("status %d with the new token", status)
	}
	if err := os.WriteFile(s.current.Load().config.Admin.ReadTokenFile, []byte(strings.Repeat("n", 20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err == nil || !strings.Contains(err.Error(), "admin.read_token_file") || !strings.Contains(err.Error(), "same token") {
		t.Errorf("two roles have one token, and the reload says %v", err)
	}
	if err := os.Remove(s.current.Load().config.Admin.TokenFile); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err == nil || !strings.Contains(err.Error(), "admin.token_file") {
		t.Errorf("the token file is gone, and the reload says %v", err)
	}
}

// TestReloadsAreRecorded: the record and the log say who has caused a reload, and what came of it.
func TestReloadsAreRecorded(t *testing.T) {
	s, log := startService(t, bundledConfig)
	edit(t, s, bundledConfig+"connect: {timeout: 3s}\n")
	s.reloader.poll(t.Context(), s)
	edit(t, s, bundledConfig+"connect: {timeout: never}\n")
	if status, _ := call(t, s, http.MethodPost, "/v1/reload", ""); status != 422 {
		t.Errorf("status %d", status)
	}
	_, body := get(t, s, "/v1/audit")
	var found admin.Changes
	if err := json.Unmarshal([]byte(body), &found); err != nil || len(found.Changes) < 2 {
		t.Fatalf("%v, %s", err, body)
	}
	// If the machine is slow, the poll that the service makes itself comes between them.
	failed, applied := found.Changes[0], found.Changes[len(found.Changes)-1]
	if applied.By != "file" || applied.Action != "reload" || applied.Outcome != observe.ReloadApplied {
		t.Errorf("by the poll: %+v", applied)
	}
	if failed.By != "operate" || failed.Address != "127.0.0.1" || failed.Outcome != observe.ReloadFailed {
		t.Errorf("by the admin side: %+v", failed)
	}
	if lines := strings.Count(log.String(), `"message":"change"`); lines != len(found.Changes) {
		t.Errorf("%d lines about changes", lines)
	}
}

// TestReplacedPartsEnd: a hundred reloads leave nothing running. If they do, the test does
// not end, and the stack traces of its timeout show what is left.
func TestReplacedPartsEnd(t *testing.T) {
	url, _ := startTokenService(t, "device")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := startService(t, bundledConfig)
	version := func(n int) string {
		return fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}, {address: "127.0.0.%d:0", tls: {auto: true}}]
admin: {address: "127.0.0.%d:0"}
auth: {sources: [{file: {path: tokens.jsonl}}, {http: {url: %s, timeout: %dms}}, {jwt: {secret_file: %s, leeway: %ds}}]}
`, 1+n%2, 1+n%3, url, 1000+n, secret, 1+n)
	}
	var before int
	for n := range 100 {
		edit(t, s, version(n))
		if err := reload(t, s); err != nil {
			t.Fatal(err)
		}
		if n == 10 {
			before = runtime.NumGoroutine()
		}
	}
	// Goroutines of parts that have been closed may not have ended yet.
	for runtime.NumGoroutine() > before+5 {
		pause(t.Context(), 10*time.Millisecond)
	}
}

// TestClientCertificatesStayRequired: no fault of a file makes a listener accept devices
// without a certificate.
func TestClientCertificatesStayRequired(t *testing.T) {
	dir := t.TempDir()
	authority := filepath.Join(dir, "devices.pem")
	selfSigned(t, dir, "devices", time.Now().Add(time.Hour))
	content, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	mutual := func(ca string) string {
		return `
listeners: [{address: "127.0.0.1:0", tls: {auto: true, client_auth: require, client_ca: ` + ca + `}}]
admin: {address: "127.0.0.1:0"}
`
	}
	s, _ := startService(t, mutual(authority))
	closed := func(when string) {
		t.Helper()
		conn, err := tls.Dial("tcp", s.current.Load().listeners[0].Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 a client learns it only now
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("%s: a device without a certificate gets %v", when, err)
		}
	}
	closed("at first")
	for when, change := range map[string]func(){
		"empty file":    func() { _ = os.WriteFile(authority, nil, 0o600) },
		"cut off":       func() { _ = os.WriteFile(authority, content[:len(content)/2], 0o600) },
		"missing":       func() { _ = os.Remove(authority) },
		"other missing": func() { edit(t, s, mutual(filepath.Join(dir, "nobody.pem"))) },
		"no authority":  func() { edit(t, s, strings.Replace(mutual(""), "client_ca: ", "client_crl: x", 1)) },
	} {
		change()
		if err := reload(t, s); err == nil {
			t.Errorf("%s: the reload says nothing", when)
		}
		closed(when)
	}
	if err := os.WriteFile(authority, content, 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, s, mutual(authority))
	if err := reload(t, s); err != nil {
		t.Errorf("corrected: %v", err)
	}
	closed("in the end")
}
