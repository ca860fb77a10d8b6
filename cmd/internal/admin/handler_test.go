package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const testToken = "an-admin-token-for-tests"

func get(t *testing.T, h http.Handler, path, authorization string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// fixed returns a secret that never changes.
func fixed(secret string) func() string { return func() string { return secret } }

// operator returns an Access with the token of the role operate alone.
func operator(token string) func() *Access {
	return func() *Access { return &Access{Tokens: Tokens{Operate: token}} }
}

func TestOnlyProbesNeedNoToken(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })
	h := newHandler(Options{Access: operator(testToken), Ready: func() error { return nil }, Metrics: served, Telemetry: served})
	for _, tt := range []struct {
		path, authorization string
		want                int
	}{
		{"/livez", "", 200},
		{"/readyz", "", 200},
		{"/metrics", "", 401},
		{"/metrics", "Bearer " + testToken, 200},
		{"/metrics", "bearer " + testToken, 200},
		{"/metrics", "Bearer " + testToken + "x", 401},
		{"/metrics", "Bearer ", 401},
		{"/metrics", "Basic " + testToken, 401},
		{"/metrics", testToken, 401},
		{"/api/plugins/telemetry/DEVICE/demo/keys/timeseries", "", 401},
		{"/api/plugins/telemetry/DEVICE/demo/keys/timeseries", "Bearer " + testToken, 200},
		{"/nothing", "", 401},
		{"/nothing", "Bearer " + testToken, 404},
	} {
		if got := get(t, h, tt.path, tt.authorization).StatusCode; got != tt.want {
			t.Errorf("GET %s with %q: status %d, want %d", tt.path, tt.authorization, got, tt.want)
		}
	}
}

// TestClientsOfThingsBoardSendTheirHeader: X-Authorization counts below /api/ and nowhere else.
func TestClientsOfThingsBoardSendTheirHeader(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })
	h := newHandler(Options{Access: testAccess, Ready: func() error { return nil }, Metrics: served, Telemetry: served})
	const api, good, wrong = "/api/plugins/telemetry/DEVICE/demo/keys/timeseries", "Bearer " + testToken, "Bearer wrong"
	for _, c := range []struct {
		path   string
		header http.Header
		want   int
	}{
		{api, http.Header{"X-Authorization": {good}}, 200},
		{api, http.Header{"X-Authorization": {good}, "Authorization": {good}}, 200},
		{api, http.Header{"X-Authorization": {wrong}}, 401},
		{api, http.Header{"X-Authorization": {wrong}, "Authorization": {good}}, 400},
		{api, http.Header{"X-Authorization": {good}, "Authorization": {wrong}}, 400},
		{api, http.Header{"X-Authorization": {good}, "Authorization": {"Bearer " + testTokens[Read]}}, 400},
		{api, http.Header{"X-Authorization": {good, wrong}}, 400},
		{api, http.Header{"Authorization": {good, wrong}}, 400},
		{"/metrics", http.Header{"X-Authorization": {good}}, 401},
		{"/metrics", http.Header{"X-Authorization": {wrong}, "Authorization": {good}}, 200},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header = c.header
		if h.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("GET %s with %v: status %d, want %d", c.path, c.header, w.Code, c.want)
		}
	}
}

func TestEmptyTokenOpensNothing(t *testing.T) {
	h := newHandler(Options{Access: operator(""), Ready: func() error { return nil }, Metrics: http.NotFoundHandler()})
	if got := get(t, h, "/metrics", "Bearer ").StatusCode; got != 401 {
		t.Errorf("status %d, want 401", got)
	}
}

func TestNotReadySaysWhy(t *testing.T) {
	h := newHandler(Options{Access: operator(""), Ready: func() error { return errors.New("draining") }})
	resp := get(t, h, "/readyz", "")
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || !strings.Contains(string(body), "draining") {
		t.Errorf("status %d, body %q; want 503 and the reason", resp.StatusCode, body)
	}
}

func TestErrorsAreProblemDetails(t *testing.T) {
	h := newHandler(Options{Access: operator(testToken)})
	resp := get(t, h, "/metrics", "Bearer wrong")
	var problem struct {
		Title  string
		Status int
		Detail string
	}
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		t.Fatal(err)
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" || problem.Status != 401 || problem.Title == "" || problem.Detail == "" {
		t.Errorf("content type %q, problem %+v", ct, problem)
	}
}

func TestOtherSitesCannotWrite(t *testing.T) {
	h := newHandler(Options{Access: operator(testToken), Telemetry: http.NotFoundHandler()})
	r := httptest.NewRequest(http.MethodPost, "/api/plugins/telemetry/x", nil)
	r.Header.Set("Authorization", "Bearer "+testToken)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("status %d, want 403", w.Code)
	}
}

func TestTokenFileIsCreatedOnceForOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "admin-token")
	tokens := make([]string, 8)
	var wg sync.WaitGroup
	for i := range tokens {
		wg.Go(func() {
			token, err := EnsureToken(path)
			if err != nil {
				t.Error(err)
			}
			tokens[i] = token
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if token != tokens[0] || len(token) < minToken {
			t.Errorf("starts at the same time got tokens of %d and %d characters, or different ones", len(token), len(tokens[0]))
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%d files are left, want the token alone", len(entries))
	}
}

func TestShortTokenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin-token")
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := EnsureToken(path)
	if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "short") {
		t.Errorf("error %v: want the file named and its content not shown", err)
	}
}
