package service

import (
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
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestStatusFollowsTheTokenFile: the status shows the fault of a token file until it is
// corrected. The source logs the fault, and the poll does not log it again.
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
	file := s.current.Load().sources.list[0]
	if file.Reload(t.Context()) == nil {
		t.Fatal("a broken file is accepted")
	}
	before := strings.Count(log.String(), "tokens.jsonl:1")
	s.reloader.poll(t.Context(), s)
	if last := s.reloader.last.Load(); last == nil || last.Outcome != observe.ReloadFailed || !strings.Contains(last.Error, "tokens.jsonl:1") {
		t.Errorf("the status has %+v", last)
	}
	if n := strings.Count(log.String(), "tokens.jsonl:1"); n != before {
		t.Errorf("logged %d times, and %d times before the poll", n, before)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := file.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.reloader.poll(t.Context(), s)
	if last := s.reloader.last.Load(); last.Outcome != observe.ReloadUnchanged {
		t.Errorf("corrected, and the status has %+v", last)
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

// TestCachesBelongToTheirSource: a source that stays keeps what it remembers, and another
// source does not get it. Denials of the operator hold for both.
func TestCachesBelongToTheirSource(t *testing.T) {
	one, askedOne := startTokenService(t, "one")
	two, askedTwo := startTokenService(t, "two")
	with := func(url, more string) string {
		return bundledConfig + "auth: {sources: [{http: {url: '" + url + "', timeout: 1m}}]}\n" + more
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
// change to report. The session must end all the same.
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

// TestReloadsUnderLoad: devices connect and leave during reloads that change everything, and
// none is refused.
func TestReloadsUnderLoad(t *testing.T) {
	one, _ := startTokenService(t, "device")
	two, _ := startTokenService(t, "device")
	version := func(url, more string) string {
		return bundledConfig + "auth: {sources: [{http: {url: '" + url + "', timeout: 1m}}]}\nupstream: {connect_timeout: 1m}\n" + more
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
					t.Errorf("device %d is refused: %d, %v", i, code, err)
					return
				}
				logins.Add(1)
				for s.server.Stats().Sessions > 100 { // a session ends after its device has left
					<-time.After(time.Millisecond)
				}
			}
		})
	}
	for n := 0; n < 30 || logins.Load() < 30 && !t.Failed(); n++ {
		url := []string{one, two}[n%2]
		edit(t, s, version(url, fmt.Sprintf("connect: {timeout: %ds}\nlimitz: {}\n", 60+n%5)))
		if err := reload(t, s); err == nil {
			t.Fatal("a mistake is accepted")
		}
		edit(t, s, version(url, fmt.Sprintf("connect: {timeout: %ds}\nlimits: {handshakes: %d}\n", 60+n%5, 1+n)))
		if err := reload(t, s); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	devices.Wait()
	if strings.Contains(log.String(), "token-1-1") {
		t.Error("the log has a token")
	}
}

// tryLogin connects, disconnects, and returns the code of the CONNACK.
func tryLogin(address string, p packets.Connect) (packets.ReasonCode, error) {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	_, ack, err := packetstest.Try(nc, &p)
	return ack.Code, err
}

// TestCredentialFaultIsReported: the proxy's own credential for a token service is read when
// it is used, and a reload reports what is wrong with it.
func TestCredentialFaultIsReported(t *testing.T) {
	url, _ := startTokenService(t, "device")
	bearer := filepath.Join(t.TempDir(), "bearer")
	if err := os.WriteFile(bearer, []byte("a-secret-credential\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, log := startService(t, bundledConfig+"auth: {sources: [{http: {url: '"+url+"', timeout: 1m, bearer_file: "+bearer+"}}]}\n")
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bearer, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The file is read again after a second at the earliest.
	for err := reload(t, s); err == nil || !strings.Contains(err.Error(), "proxy.yaml:5: auth.sources[0].http: "); err = reload(t, s) {
		pause(t.Context(), 50*time.Millisecond)
	}
	if strings.Contains(log.String(), "a-secret-credential") {
		t.Error("the log has the credential")
	}
}

// TestKeyFileFaultIsLogged: a key file that is no longer good is logged once, when the poll
// finds it, and the log says where the source is.
func TestKeyFileFaultIsLogged(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, log := startService(t, bundledConfig+"auth: {sources: [{jwt: {secret_file: "+keys+"}}]}\n")
	if err := os.WriteFile(keys, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.current.Load().sources.list[0].Reload(t.Context()) == nil {
		t.Fatal("a short secret is accepted")
	}
	s.reloader.poll(t.Context(), s)
	s.reloader.poll(t.Context(), s)
	if n := strings.Count(log.String(), "proxy.yaml:5: auth.sources[0].jwt: "); n != 1 {
		t.Errorf("the fault is logged %d times:\n%s", n, log)
	}
}
