package service

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestTryOnlineSaysWhatDoesNotWork: every source and every broker is tried once, and what does not
// work is named with its key.
func TestTryOnlineSaysWhatDoesNotWork(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens.jsonl")
	if _, err := tokenfile.Create(tokens, tokenfile.CreateOptions{Name: "pump"}); err != nil {
		t.Fatal(err)
	}
	dsn := filepath.Join(dir, "dsn")
	host, port, _ := net.SplitHostPort(closedPort)
	if err := os.WriteFile(dsn, []byte("host="+host+" port="+port+" user=proxy dbname=fleet sslmode=disable"), 0o600); err != nil {
		t.Fatal(err)
	}
	answering := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)
		return s.URL + "/?token=${token}"
	}
	text := fmt.Sprintf(`
data: %s
auth:
  sources:
  - file: {path: %s}
  - http: {url: %q, preset: status}
  - http: {url: %q, preset: status}
  - http: {url: %q, preset: status}
  - postgres: {dsn_file: %q, query: "SELECT subject FROM devices WHERE hash = @token_sha256"}
upstream:
  servers: [%q, %q, %q]
  username: proxy
  password: secret
`, dir, tokens, answering(403), answering(200), answering(503), dsn, "tcp://"+fakeBroker(t, packets.Success), "tcp://"+fakeBroker(t, packets.RefusedNotAuthorized), "tcp://"+closedPort)
	trials := tryOnline(t, text)
	wants := []struct{ key, err string }{
		{"auth.sources[0].file", ""},
		{"auth.sources[1].http", ""},
		{"auth.sources[2].http", "so every device"},
		{"auth.sources[3].http", "503"},
		{"auth.sources[4].postgres", "refused"},
		{"upstream.servers[0]", ""},
		{"upstream.servers[1]", "the broker answered Not authorized (5)"},
		{"upstream.servers[2]", "refused"},
	}
	if len(trials) != len(wants) {
		t.Fatalf("%d trials, want %d: %v", len(trials), len(wants), trials)
	}
	for i, want := range wants {
		got := trials[i]
		if got.Key != want.key || (got.Err == nil) != (want.err == "") || got.Err != nil && !strings.Contains(got.Err.Error(), want.err) || got.What == "" || got.Todo == "" {
			t.Errorf("%+v, want %s: %q", got, want.key, want.err)
		}
	}
}

// TestTryOnlineSendsNoCredentialsOfDevices: if each device has its own at the broker, a connection
// is all that is tried.
func TestTryOnlineSendsNoCredentialsOfDevices(t *testing.T) {
	dir := t.TempDir()
	text := fmt.Sprintf("data: %s\nauth: {sources: [{file: {path: %s}}]}\nupstream: {servers: [%q]}\n",
		dir, filepath.Join(dir, "tokens.jsonl"), "tcp://"+fakeBroker(t, packets.RefusedNotAuthorized))
	trials := tryOnline(t, text)
	if last := trials[len(trials)-1]; last.Err != nil || !strings.Contains(last.What, "without a CONNECT") {
		t.Errorf("%+v", last)
	}
}

// TestTryOnlineConnectsToTheReceiverOfEvents: a connection is all that it gets, with TLS if it has
// that, and a certificate that is not trusted is a fault.
func TestTryOnlineConnectsToTheReceiverOfEvents(t *testing.T) {
	var requests atomic.Int32
	count := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	plain, secured := httptest.NewServer(count), httptest.NewUnstartedServer(count)
	secured.Config.ErrorLog = log.New(io.Discard, "", 0)
	secured.StartTLS()
	defer plain.Close()
	defer secured.Close()
	dir := t.TempDir()
	secret, ca := filepath.Join(dir, "secret"), filepath.Join(dir, "ca.pem")
	pemCA := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secured.Certificate().Raw})
	if err := errors.Join(os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600), os.WriteFile(ca, pemCA, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, hooks, err string }{
		{"plain", fmt.Sprintf("{url: %q, secret_file: %s}", plain.URL, secret), ""},
		{"TLS", fmt.Sprintf("{url: %q, secret_file: %s, tls: {ca: %s}}", secured.URL, secret, ca), ""},
		{"another CA", fmt.Sprintf("{url: %q, secret_file: %s}", secured.URL, secret), "certificate"},
		{"nothing listens", fmt.Sprintf("{url: \"http://%s/\", secret_file: %s}", closedPort, secret), "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			trials := tryOnline(t, fmt.Sprintf("data: %s\nhooks: %s\n", dir, c.hooks))
			i := slices.IndexFunc(trials, func(x Trial) bool { return x.Key == "hooks.url" })
			if i < 0 {
				t.Fatalf("it is not tried: %+v", trials)
			}
			if err := trials[i].Err; (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
	plain.Close() // which waits for requests
	secured.Close()
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestTryOnlineEnds: a broker and a service that accept connections and answer nothing are given
// up.
func TestTryOnlineEnds(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // whose backlog takes the connections
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	text := fmt.Sprintf("data: %s\nconnect: {timeout: 300ms}\nauth: {sources: [{http: {url: \"http://%s\", timeout: 200ms}}]}\n"+
		"upstream: {servers: [\"tcp://%s\"], username: proxy, password: x, connect_timeout: 200ms}\n", t.TempDir(), ln.Addr(), ln.Addr())
	for _, trial := range tryOnline(t, text) {
		if trial.Err == nil {
			t.Errorf("%s works", trial.Key)
		}
	}
}

func tryOnline(t *testing.T, text string) []Trial {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, err := Load(config.Options{Path: path}, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	return plan.TryOnline(t.Context())
}

// fakeBroker answers each CONNECT with that code.
func fakeBroker(t *testing.T, code packets.ReasonCode) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := packets.ReadConnect(conn, 1<<10); err == nil {
				_, _ = conn.Write((&packets.Connack{Code: code}).Append(nil, 4))
				_, _ = packets.ReadPacket(conn, 100)
			}
			_ = conn.Close()
		}
	}()
	return ln.Addr().String()
}

// closedPort is an address at which nothing listens. A port that was free a moment ago may belong to
// another program now.
const closedPort = "127.0.0.1:1"
