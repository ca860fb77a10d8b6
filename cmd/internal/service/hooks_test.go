package service

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// eventReceiver takes the events that are signed with its secret.
type eventReceiver struct {
	mu     sync.Mutex
	secret string
	bodies strings.Builder
}

func (e *eventReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	defer e.mu.Unlock()
	mac := hmac.New(sha256.New, []byte(e.secret))
	mac.Write([]byte(r.Header.Get("X-Timestamp") + "."))
	mac.Write(body)
	if r.Header.Get("X-Signature") != "hmac-sha256="+hex.EncodeToString(mac.Sum(nil)) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	e.bodies.Write(body)
}

func (e *eventReceiver) got() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bodies.String()
}

// TestEventsAreDelivered: over TLS of an own authority, signed with the secret in the file, which
// may change at a reload, and the last ones when the service ends.
func TestEventsAreDelivered(t *testing.T) {
	r := &eventReceiver{secret: strings.Repeat("k", 32)}
	server := httptest.NewTLSServer(r)
	defer server.Close()
	dir := t.TempDir()
	secret, ca := filepath.Join(dir, "secret"), filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(strings.Repeat("x", 32))
	s, log := startService(t, bundledConfig+fmt.Sprintf("hooks: {url: %q, secret_file: %q, events: [connected, disconnected], tls: {ca: %q}}\n", server.URL, secret, ca))
	connectDemo(t, s, 4)
	await(t, "the refusal of the other secret", func() bool {
		_, status := get(t, s, "/v1/status")
		_, metrics := get(t, s, "/metrics")
		return strings.Contains(status, `"last_error":"the receiver answers 401 Unauthorized: compare the secret`) && strings.Contains(metrics, "mqtt_auth_proxy_hooks_working 0\n")
	})
	await(t, "the fault in the log", func() bool { return strings.Contains(log.String(), "the receiver of events does not accept them") })
	put(r.secret)
	if status, body := call(t, s, "POST", "/v1/reload", ""); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	await(t, "the connect", func() bool { return strings.Contains(r.got(), `"event":"connected"`) })
	put("short")
	if status, body := call(t, s, "POST", "/v1/reload", ""); status != 422 || !strings.Contains(body, "hooks.secret_file: ") {
		t.Errorf("a short secret: %d %s", status, body)
	}
	s.Close()
	if got := r.got(); !strings.Contains(got, `"event":"disconnected"`) || !strings.Contains(got, `"subject":"demo"`) || strings.Contains(got, s.demo.token.Reveal()) {
		t.Errorf("events %s", got)
	}
}

// TestAReceiverThatHangsHoldsNothingUp: neither devices nor the end.
func TestAReceiverThatHangsHoldsNothingUp(t *testing.T) {
	asked := make(chan bool, 100)
	over := make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- true
		<-over
	}))
	defer server.Close()
	defer close(over)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, log := startService(t, bundledConfig+fmt.Sprintf("hooks: {url: %q, secret_file: %q}\n", server.URL, secret))
	for range 3 {
		connectDemo(t, s, 4)
	}
	<-asked
	ended := make(chan bool)
	go func() { s.Close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the service does not end")
	}
	if !strings.Contains(log.String(), "the last events are lost") {
		t.Error("the loss is not in the log")
	}
}
