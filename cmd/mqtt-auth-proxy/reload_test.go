package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// edit replaces the service's config file by the text.
func edit(t *testing.T, s *service, yaml string) {
	t.Helper()
	if err := os.WriteFile(s.config.Path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
}

func reload(t *testing.T, s *service) error {
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
	nc, err := net.Dial("tcp", in.listeners[1].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := asDemo(s, 5)
	p.ClientID = "another"
	if _, err := nc.Write(p.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if raw, err := packets.ReadPacket(nc, 1<<10); err != nil || raw[3] != 0x89 {
		t.Errorf("got % x, %v: the new limits are not in force", raw, err)
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
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.config.Path), "short"), []byte("too short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ yaml, want string }{
		"typing mistake": {"listenerz: []\n", "proxy.yaml:1: listenerz: is an unknown key"},
		"not YAML":       {"listeners: [\n", "proxy.yaml:"},
		"empty":          {"\n# nothing\n", "the file says nothing"},
		"restart":        {bundledConfig + "data: elsewhere\n", "proxy.yaml:5: data: has changed and needs a restart"},
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
		t.Error("no metric tells of the failure")
	}
	edit(t, s, bundledConfig)
	if err := reload(t, s); err != nil {
		t.Errorf("mended: %v", err)
	}
	if _, body := get(t, s, "/metrics"); !strings.Contains(body, "mqtt_auth_proxy_config_last_reload_successful 1\n") {
		t.Error("no metric tells that it is mended")
	}
	if strings.Contains(log.String(), s.demo.token.Reveal()) {
		t.Error("the log has the token")
	}
}

// TestThePollTellsAFaultOnce: a fault is told when it comes, and its end when it ends.
func TestThePollTellsAFaultOnce(t *testing.T) {
	s, log := startService(t, bundledConfig)
	poll := func() { s.reloader.poll(t.Context(), s) }
	poll()
	edit(t, s, "listenerz: []\n")
	poll()
	poll()
	if n := strings.Count(log.String(), "listenerz"); n != 1 {
		t.Errorf("the fault is told %d times", n)
	}
	edit(t, s, bundledConfig)
	poll()
	poll()
	if last := s.reloader.last.Load(); last.Outcome != reloadUnchanged || last.By != byPoll {
		t.Errorf("mended, but the status is %+v", last)
	}
	edit(t, s, bundledConfig+"connect: {timeout: 3s}\n")
	poll()
	if got := s.current.Load().policy.ConnectTimeout.Seconds(); got != 3 {
		t.Errorf("the timeout is %v s", got)
	}
}

// TestStatusFollowsTheTokenFile: what is wrong with it shows until it is mended, and is
// told by the one who watches it, not again by the poll.
func TestStatusFollowsTheTokenFile(t *testing.T) {
	s, log := startService(t, bundledConfig)
	path := s.current.Load().config.Auth.Sources[0].File.Path
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{broken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := s.current.Load().sources.files()[0]
	if file.Reload(t.Context()) == nil {
		t.Fatal("a broken file is accepted")
	}
	before := strings.Count(log.String(), "tokens.jsonl:1")
	s.reloader.poll(t.Context(), s)
	if last := s.reloader.last.Load(); last == nil || last.Outcome != reloadFailed || !strings.Contains(last.Error, "tokens.jsonl:1") {
		t.Errorf("the status has %+v", last)
	}
	if n := strings.Count(log.String(), "tokens.jsonl:1"); n != before {
		t.Errorf("told %d times, was told %d times before", n, before)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := file.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.reloader.poll(t.Context(), s)
	if last := s.reloader.last.Load(); last.Outcome != reloadUnchanged {
		t.Errorf("mended, and the status has %+v", last)
	}
}

// startTokenService starts a token service that knows every token as one device, and
// counts how often it is asked.
func startTokenService(t *testing.T, subject string) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"result":"allow","subject":%q,"token_id":"t1"}`, subject)
	}))
	t.Cleanup(source.Close)
	return source.URL, asked
}

// TestCachesBelongToTheirSource: a source that goes on keeps what it remembers; another
// one remembers nothing of it, but what an operator has withdrawn.
func TestCachesBelongToTheirSource(t *testing.T) {
	one, askedOne := startTokenService(t, "one")
	two, askedTwo := startTokenService(t, "two")
	with := func(url, more string) string {
		return bundledConfig + "auth: {sources: [{http: {url: '" + url + "'}}]}\n" + more
	}
	s, _ := startService(t, with(one, ""))
	p := packets.Connect{Level: 5, CleanStart: true, ClientID: "a", HasUsername: true, Username: "a-token-of-the-service"}
	subject := func() string {
		nc, ack := login(t, s, p)
		defer nc.Close()
		if ack.Code != packets.Success {
			return ack.Code.String()
		}
		_, body := get(t, s, "/v1/sessions")
		return body
	}
	if got := subject(); !strings.Contains(got, `"subject":"one"`) {
		t.Fatal(got)
	}
	edit(t, s, with(one, "connect: {timeout: 3s}\n"))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	subject()
	if n := askedOne.Load(); n != 1 {
		t.Errorf("the source was asked %d times: the cache is lost", n)
	}
	edit(t, s, with(two, ""))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if got := subject(); !strings.Contains(got, `"subject":"two"`) || askedTwo.Load() != 1 {
		t.Errorf("after the change of source, which was asked %d times: %s", askedTwo.Load(), got)
	}
	if status, body := call(t, s, http.MethodPost, "/v1/revocations", `{"subject":"one","mode":"deny"}`); status != 200 {
		t.Fatal(body)
	}
	edit(t, s, with(one, ""))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if _, ack := login(t, s, p); ack.Code == packets.Success {
		t.Error("a change of source has brought back what was withdrawn")
	}
}

// TestTokenWithdrawnInTheSameEdit: the new token file never had the token, so it has no
// change to report; the session must end all the same.
func TestTokenWithdrawnInTheSameEdit(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	gone, _ := login(t, s, asDemo(s, 5))
	other := filepath.Join(t.TempDir(), "other.jsonl")
	content, err := os.ReadFile(s.current.Load().config.Auth.Sources[0].File.Path)
	if err != nil {
		t.Fatal(err)
	}
	moved := bundledConfig + "auth: {sources: [{file: {path: " + other + "}}]}\n"

	if err := os.WriteFile(other, content, 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, s, moved)
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if !alive(t, gone) {
		t.Fatal("a session has ended whose token is in the new file too")
	}
	another := filepath.Join(t.TempDir(), "another.jsonl")
	if err := os.WriteFile(another, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, s, strings.Replace(moved, other, another, 1))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(gone); err != nil || len(rest) != 3 || rest[2] != 0x98 {
		t.Errorf("the device got % x, %v; want DISCONNECT 0x98", rest, err)
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
	if err := os.Remove(s.current.Load().config.Admin.TokenFile); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err == nil || !strings.Contains(err.Error(), "admin.token_file") {
		t.Errorf("the token file is gone, and the reload says %v", err)
	}
}

// TestReloadsUnderLoad: devices come and go while everything changes under them, and
// none is turned away.
func TestReloadsUnderLoad(t *testing.T) {
	one, _ := startTokenService(t, "device")
	two, _ := startTokenService(t, "device")
	version := func(url, more string) string {
		return bundledConfig + "auth: {sources: [{http: {url: '" + url + "'}}]}\n" + more
	}
	s, log := startService(t, version(one, ""))
	stop := make(chan struct{})
	var devices sync.WaitGroup
	var logins atomic.Int32
	address := s.current.Load().listeners[0].Addr().String()
	for i := range 8 {
		devices.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				p := packets.Connect{Level: 4, CleanStart: true, ClientID: fmt.Sprint("d", i), HasUsername: true, Username: fmt.Sprintf("token-%d-%d", i, n)}
				if code, err := tryLogin(address, p); err != nil || code != 0 {
					t.Errorf("device %d is turned away: %d, %v", i, code, err)
					return
				}
				logins.Add(1)
			}
		})
	}
	for n := range 30 {
		url := []string{one, two}[n%2]
		edit(t, s, version(url, fmt.Sprintf("connect: {timeout: %ds}\nlimitz: {}\n", 3+n%5)))
		if err := reload(t, s); err == nil {
			t.Fatal("a mistake is accepted")
		}
		edit(t, s, version(url, fmt.Sprintf("connect: {timeout: %ds}\nlimits: {handshakes: %d}\n", 3+n%5, 1+n)))
		if err := reload(t, s); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	devices.Wait()
	if logins.Load() < 30 {
		t.Errorf("only %d logins: the test shows nothing", logins.Load())
	}
	if strings.Contains(log.String(), "token-1-1") {
		t.Error("the log has a token")
	}
}

// tryLogin connects, leaves, and returns the answer to the CONNECT.
func tryLogin(address string, p packets.Connect) (code byte, err error) {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	if _, err := nc.Write(p.Append(nil)); err != nil {
		return 0, err
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(nc, ack); err != nil {
		return 0, err
	}
	return ack[3], nil
}

// TestReplacedPartsEnd: a hundred reloads leave nothing behind.
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
	if after := runtime.NumGoroutine(); after > before+5 {
		t.Errorf("%d goroutines after 10 reloads, %d after 100", before, after)
	}
}

// TestClientCertificatesStayRequired: no fault of a file opens a listener.
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
			_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells a client that late
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("%s: a device without a certificate hears %v", when, err)
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
		t.Errorf("mended: %v", err)
	}
	closed("in the end")
}

// TestCredentialFaultIsTold: the proxy's own credential for a token service is taken up
// where it is used, but what is wrong with it is told here.
func TestCredentialFaultIsTold(t *testing.T) {
	url, _ := startTokenService(t, "device")
	bearer := filepath.Join(t.TempDir(), "bearer")
	if err := os.WriteFile(bearer, []byte("a-secret-credential\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, log := startService(t, bundledConfig+"auth: {sources: [{http: {url: '"+url+"', bearer_file: "+bearer+"}}]}\n")
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bearer, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	limit := time.Now().Add(10 * time.Second)
	for err := reload(t, s); err == nil || !strings.Contains(err.Error(), "proxy.yaml:5: auth.sources[0].http: "); err = reload(t, s) {
		if time.Now().After(limit) {
			t.Fatalf("the empty credential: %v", err)
		}
	}
	if strings.Contains(log.String(), "a-secret-credential") {
		t.Error("the log has the credential")
	}
}
