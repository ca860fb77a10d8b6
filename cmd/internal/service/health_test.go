package service

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestTokenServiceDownIsDegraded: known devices can be served, so the proxy stays ready and says
// what is wrong.
func TestTokenServiceDownIsDegraded(t *testing.T) {
	var down atomic.Bool
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"result":"deny"}`)
	}))
	defer source.Close()
	s, _ := startService(t, bundledConfig+"auth: {sources: [{file: {path: tokens.jsonl}}, {http: {url: '"+source.URL+"', timeout: 1m}}]}\n")
	ask := func(token string) packets.ReasonCode {
		p := asDemo(s, 4)
		p.Username = token
		_, ack := login(t, s, p)
		return ack.Code
	}
	expect := func(what, ready, status, metrics string) {
		t.Helper()
		for path, want := range map[string]string{"/readyz": ready, "/v1/status": status, "/metrics": metrics} {
			code, body := get(t, s, path)
			if degraded := strings.Contains(body, "degraded: "); code != 200 || !strings.Contains(body, want) || path == "/readyz" && degraded != (ready != "ready") {
				t.Errorf("%s: %s: %d %.300s; want %q", what, path, code, body, want)
			}
		}
	}
	expect("before it is asked", "ready", `{"name":"http0"`, `auth_source_up{source="http0"} 1`)
	if code := ask("token-that-is-denied"); code != packets.RefusedNotAuthorized {
		t.Fatalf("CONNACK %v", code)
	}
	down.Store(true)
	if code := ask("another-token"); code != packets.RefusedServerUnavailable {
		t.Fatalf("CONNACK %v", code)
	}
	expect("while it is down", "degraded: token source http0, 127.0.0.1:", `"degraded":["token source http0, 127.0.0.1:`, "mqtt_auth_proxy_degraded 1")
	expect("while it is down", "502", `"up":false,"since":"`, `auth_source_up{source="http0"} 0`)
	down.Store(false)
	if code := ask("a-third-token"); code != packets.RefusedNotAuthorized {
		t.Fatalf("CONNACK %v", code)
	}
	expect("when it is back", "ready", `"up":true`, "mqtt_auth_proxy_degraded 0")
}

// TestShownErrorsAreOneBoundedLine, whatever the other side has written into them.
func TestShownErrorsAreOneBoundedLine(t *testing.T) {
	if got := printable(errors.New("a\r\nb\x1b[2J\u202e")); got != "a?; b?[2J?" {
		t.Errorf("%q", got)
	}
	if got := printable(errors.New(strings.Repeat("é", 1000))); len(got) != maxFault+3 {
		t.Errorf("%d bytes", len(got))
	}
}
