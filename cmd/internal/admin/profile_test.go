package admin

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProfilesAreForOperators(t *testing.T) {
	s := httptest.NewServer(newHandler(Options{Access: operator(testToken), Ready: func() error { return nil }}))
	defer s.Close()
	get := func(path, token string) (int, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	for _, path := range []string{"", "heap", "goroutine", "profile?seconds=1", "trace?seconds=1", "cmdline", "symbol"} {
		if status, _ := get("/debug/pprof/"+path, "not-the-token-of-the-admin"); status != http.StatusUnauthorized {
			t.Errorf("%s without the token: status %d", path, status)
		}
	}
	if status, body := get("/debug/pprof/", testToken); status != http.StatusOK || !strings.Contains(string(body), "goroutine") {
		t.Errorf("index: status %d, %d bytes", status, len(body))
	}
	// A gzip'ed protocol buffer, as go tool pprof reads it.
	for _, path := range []string{"heap", "profile?seconds=1"} {
		if status, body := get("/debug/pprof/"+path, testToken); status != http.StatusOK || !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
			t.Errorf("%s: status %d, % x...", path, status, body[:min(4, len(body))])
		}
	}
	for _, seconds := range []string{"31", "-1", "0", "1e9", "NaN", "x"} {
		for _, path := range []string{"profile", "trace", "heap"} {
			if status, body := get("/debug/pprof/"+path+"?seconds="+seconds, testToken); status != http.StatusBadRequest || !strings.Contains(string(body), "1 to 30") {
				t.Errorf("%s for %s seconds: status %d, %s", path, seconds, status, body)
			}
		}
	}
}

// TestNoProfilesWithoutAToken: while there is no admin token, only the probes answer.
func TestNoProfilesWithoutAToken(t *testing.T) {
	w := httptest.NewRecorder()
	newHandler(Options{Access: operator("")}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/heap", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("status %d", w.Code)
	}
}
