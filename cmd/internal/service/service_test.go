package service

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startService runs a service with the given config on free ports until the test
// ends.
func startService(t *testing.T, yaml string) (*Service, *lockedBuffer) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	// A busy machine may need longer than a device waits.
	options := config.Options{Path: path, Environ: []string{"MQTT_AUTH_PROXY_UPSTREAM_CONNECT_TIMEOUT=1m"}}
	plan, err := Load(options, "test")
	if err != nil {
		t.Fatal(err)
	}
	log, level := new(lockedBuffer), zap.NewAtomicLevelAt(zap.DebugLevel)
	logger, err := observe.NewLog(log, level, "json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(context.Background(), plan, Process{Log: logger, Level: level, Config: options, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.start()
	return s, log
}

// restart makes a service with the configuration of s, which has ended.
func restart(t *testing.T, s *Service) (*Service, error) {
	t.Helper()
	plan, err := Load(s.Config, s.Version)
	if err != nil {
		t.Fatal(err)
	}
	again, err := New(context.Background(), plan, s.Process)
	if err == nil {
		t.Cleanup(again.Close)
	}
	return again, err
}

const bundledConfig = `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
log: {level: debug}
`

// login connects to the service's first listener and returns the answer.
func login(t *testing.T, s *Service, p packets.Connect) (*packetstest.Client, packets.Connack) {
	t.Helper()
	return packetstest.Present(t, packetstest.Dial(t, s.current.Load().listeners[0].Addr().String()), &p)
}

func asDemo(s *Service, level byte) packets.Connect {
	return packets.Connect{Level: level, CleanStart: true, KeepAlive: 60, ClientID: "test", HasUsername: true, Username: s.demo.token.Reveal()}
}

// connectDemo connects as the device demo.
func connectDemo(t *testing.T, s *Service, level byte) *packetstest.Client {
	t.Helper()
	c, ack := login(t, s, asDemo(s, level))
	if ack.Code != packets.Success {
		t.Fatalf("CONNACK %v", ack.Code)
	}
	return c
}

func get(t *testing.T, s *Service, path string) (int, string) {
	t.Helper()
	return call(t, s, http.MethodGet, path, "")
}

// call sends a request to the admin side.
func call(t *testing.T, s *Service, method, path, content string) (int, string) {
	t.Helper()
	token, err := os.ReadFile(s.current.Load().config.Admin.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.current.Load().admin.socket.Addr().String()+path, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestTelemetryIsStoredAndRead(t *testing.T) {
	s, log := startService(t, bundledConfig)
	nc := connectDemo(t, s, 4)
	if err := nc.Publish("v1/devices/me/telemetry", "{temperature:25}"); err != nil {
		t.Fatal(err)
	}
	status, body := get(t, s, "/api/plugins/telemetry/DEVICE/demo/values/timeseries?keys=temperature&useStrictDataTypes=true")
	if status != 200 || !strings.Contains(body, `"value":25}`) {
		t.Errorf("status %d, body %s", status, body)
	}
	nc.Close()
	s.Close()
	if strings.Contains(log.String(), s.demo.token.Reveal()) {
		t.Error("the log has the token")
	}
}

func TestWrongTokenIsLoggedByItsFingerprint(t *testing.T) {
	s, log := startService(t, bundledConfig)
	p := asDemo(s, 5)
	p.Username = "not-a-token-anybody-has"
	_, ack := login(t, s, p)
	if ack.Code != packets.BadUserNameOrPassword {
		t.Errorf("CONNACK %v", ack.Code)
	}
	s.Close()
	if text := log.String(); strings.Contains(text, p.Username) || !strings.Contains(text, `"reason":"unknown_token"`) {
		t.Errorf("log: %s", text)
	}
}

func TestWillIntoAnothersTopicIsRefused(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	p := asDemo(s, 5)
	p.HasWill, p.Will = true, packets.Will{Topic: "v1/devices/other/telemetry", Payload: []byte("{}")}
	if _, ack := login(t, s, p); ack.Code != packets.NotAuthorized {
		t.Errorf("CONNACK %v, want not authorized", ack.Code)
	}
}

func TestNotReadyWhileTheBrokerIsDown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	s, _ := startService(t, fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
log: {level: debug}
auth: {sources: [{file: {path: %q}}]}
upstream: {servers: ["tcp://%s"], connect_timeout: 1s}
`, emptyTokenFile(t), addr))
	if status, body := get(t, s, "/readyz"); status != 200 {
		t.Errorf("with a broker: status %d, %s", status, body)
	}
	ln.Close()
	request := &proxy.ConnectRequest{Client: &proxy.Client{Grant: &authz.Grant{}}, Out: &packets.Connect{}}
	if _, err := s.current.Load().upstream.pool.Connect(t.Context(), request, nil); err == nil {
		t.Fatal("the closed broker answers")
	}
	if status, body := get(t, s, "/readyz"); status != 503 || !strings.Contains(body, addr) {
		t.Errorf("without a broker: status %d, %s", status, body)
	}
}

// TestTokenServiceBehindAFile: the service is asked, once, about a token that the file does
// not know, and its answer can be withdrawn.
func TestTokenServiceBehindAFile(t *testing.T) {
	var asked atomic.Int32
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(string(body), "token-of-the-service") {
			io.WriteString(w, `{"result":"allow","subject":"served","token_id":"t1"}`)
			return
		}
		io.WriteString(w, `{"result":"deny","reason_code":"bad_credentials"}`)
	}))
	defer source.Close()
	s, log := startService(t, bundledConfig+"auth: {sources: [{file: {path: tokens.jsonl}}, {http: {url: '"+source.URL+"', timeout: 1m}}]}\n")

	if _, ack := login(t, s, asDemo(s, 4)); ack.Code != packets.Success || asked.Load() != 0 {
		t.Errorf("a token of the file: CONNACK %v after %d questions", ack.Code, asked.Load())
	}
	p := asDemo(s, 5)
	p.Username, p.ClientID = "token-of-the-service", ""
	first, ack := login(t, s, p)
	_, again := login(t, s, p)
	if ack.Code != packets.Success || again.Code != packets.Success || asked.Load() != 1 {
		t.Errorf("CONNACK %v and %v after %d questions, want one", ack.Code, again.Code, asked.Load())
	}
	if _, body := get(t, s, "/v1/status"); !strings.Contains(body, `"cache":{"entries":1,"hits":1,"misses":1}`) {
		t.Errorf("the status does not say what the cache has answered: %s", body)
	}
	post := func(body string) (int, string) {
		return call(t, s, http.MethodPost, "/v1/revocations", body)
	}
	if status, body := post(`{"subject":"served","mode":"deny"}`); status != 200 || strings.TrimSpace(body) != `{"entries":1,"sessions":2}` {
		t.Errorf("revocation: %d %s", status, body)
	}
	if rest, err := io.ReadAll(first); err != nil || !bytes.Equal(rest, []byte{0xe0, 1, 0x98}) {
		t.Errorf("the device got % x, %v; want DISCONNECT 0x98", rest, err)
	}
	if _, ack := login(t, s, p); ack.Code != packets.NotAuthorized {
		t.Errorf("CONNACK %v after the revocation", ack.Code)
	}
	p.Username = "a-token-nobody-knows"
	if _, ack := login(t, s, p); ack.Code != packets.BadUserNameOrPassword {
		t.Errorf("CONNACK %v for an unknown token", ack.Code)
	}
	source.Close()
	p.Username = "another-token-nobody-knows"
	if _, ack := login(t, s, p); ack.Code != packets.ServerUnavailable {
		t.Errorf("CONNACK %v while the service is down", ack.Code)
	}
	s.Close()
	for _, token := range []string{"token-of-the-service", "token-nobody-knows"} {
		if strings.Contains(log.String(), token) {
			t.Errorf("the log has %q", token)
		}
	}
}

func emptyTokenFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	if err := os.WriteFile(path, []byte("# none yet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDrainDisconnectsDevices: a signal ends the sessions with a DISCONNECT and the service
// without an error.
func TestDrainDisconnectsDevices(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	nc := connectDemo(t, s, 5)
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	ended := make(chan error, 1)
	go func() { ended <- s.wait(signals) }()
	rest, err := io.ReadAll(nc)
	if err != nil || !bytes.Equal(rest, []byte{0xe0, 1, 0x8b}) {
		t.Errorf("the device got % x, %v; want DISCONNECT 0x8B", rest, err)
	}
	nc.Close()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestStatusSaysWhatIsInForce(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	if err := os.WriteFile(s.current.Load().config.Auth.Sources[0].File.Path, []byte("{broken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.reloader.now(t.Context(), s, "test"); err == nil {
		t.Fatal("a broken token file is accepted")
	}
	code, body := get(t, s, "/v1/status")
	if code != 200 || !strings.Contains(body, `"ready":true`) || !strings.Contains(body, "tokens.jsonl:1") {
		t.Errorf("status %d, %s", code, body)
	}
	if _, ack := login(t, s, asDemo(s, 4)); ack.Code != packets.Success {
		t.Errorf("CONNACK %v: the last good tokens are not in force", ack.Code)
	}
	if st := s.status(); st.Memory.Used < 1<<20 || st.Telemetry == nil || st.Telemetry.Error != "" || st.Telemetry.Bytes == 0 {
		t.Errorf("memory %+v, telemetry %+v", st.Memory, st.Telemetry)
	}
}

// TestPageShowsTheService: the page has what happens in the service, now and in its history.
func TestPageShowsTheService(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	d, _ := login(t, s, asDemo(s, 5))
	refused := asDemo(s, 5)
	refused.Username = "a-token-nobody-knows"
	login(t, s, refused)
	r := s.reading()
	await(t, "count of the session and the refusal", func() bool {
		r = s.reading()
		return r.Totals[page.SeriesRefused+"unknown_token"] == 1 && r.Totals[page.SeriesConnects] == 1
	})
	if r.Levels[page.SeriesSessions] != 1 || r.Levels[page.SeriesMemory] < 1<<20 || len(r.Times) == 0 {
		t.Errorf("the history gets %+v", r)
	}
	if _, ok := r.Totals[page.SeriesMessagesIn]; !ok {
		t.Error("the history gets no messages")
	}
	for path, want := range map[string]string{
		"/": "Telemetry", "/devices": "/device?subject=demo", "/device?subject=demo": "Session 1", "/refusals": "unknown_token",
		"/telemetry/device?subject=demo": "no telemetry",
	} {
		if code, body := get(t, s, path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("GET %s: status %d without %q:\n%s", path, code, want, body)
		}
	}
	if _, body := get(t, s, "/tokens"); !strings.Contains(body, "/token?source=file0&amp;id=demo-") {
		t.Errorf("the list of tokens does not have that of demo:\n%s", body)
	}
	ports := s.listenersOfPage()
	if len(ports) == 0 || ports[0].Port == 0 {
		t.Errorf("devices connect at %+v", ports)
	}
	d.Close()
}

func TestShellWord(t *testing.T) {
	for text, want := range map[string]string{
		"/var/lib/proxy/tls/ca-root.pem": "/var/lib/proxy/tls/ca-root.pem",
		"/tmp/my dir/ca.pem":             "'/tmp/my dir/ca.pem'",
		"it's":                           `'it'\''s'`,
		"$(reboot)":                      "'$(reboot)'",
		"":                               "''",
	} {
		if got := shellWord(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestPushSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if secret, err := sharedSecret(""); secret != "" || err != nil {
		t.Errorf("without a file: %d bytes, %v", len(secret), err)
	}
	if _, err := sharedSecret(path); err == nil {
		t.Error("a missing file is accepted")
	}
	for content, ok := range map[string]bool{strings.Repeat("k", 32) + "\n": true, strings.Repeat("k", 31) + "\n": false} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if secret, err := sharedSecret(path); (err == nil) != ok || ok && len(secret) != 32 {
			t.Errorf("%d bytes: %v", len(content), err)
		}
	}
}

// TestDemoTokenEndsAfterADay: the demo token ends after a day, and the greeting says how to
// keep it, and where the page is.
func TestDemoTokenEndsAfterADay(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	file := s.current.Load().config.Auth.Sources[0].File.Path
	entries, err := tokenfile.List(file)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if left := time.Until(entries[0].Expires); left > 24*time.Hour || left < 23*time.Hour {
		t.Errorf("it ends in %v", left)
	}
	var greeting strings.Builder
	if err := s.demo.print(&greeting); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"expires in a day, at " + entries[0].Expires.UTC().Format(time.RFC3339), "mqtt-auth-proxy token extend demo --expires never --data ",
		fmt.Sprintf("in a browser at http://%s/ and sign in with the content of %s\n", s.current.Load().admin.socket.Addr(), s.current.Load().config.Admin.TokenFile)} {
		if !strings.Contains(greeting.String(), want) {
			t.Errorf("the greeting lacks %q:\n%s", want, greeting.String())
		}
	}
}
