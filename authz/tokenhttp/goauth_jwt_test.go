package tokenhttp

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestGoauthJWT: services that were written for the remote JWT mode of that plug-in get the
// token as their caller's credential, so a 401 is about the token.
func TestGoauthJWT(t *testing.T) {
	var authorization, body string
	status, answer := http.StatusOK, `{"ok":true,"error":""}`
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		authorization, body = r.Header.Get("Authorization"), string(text)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	})
	s := sourceOf(t, Options{
		URL: server.URL, Preset: "goauth",
		Headers: map[string]string{"Authorization": "Bearer ${token}"},
		Body:    `{"username":"","password":"","clientid":"${clientid}"}`,
	})
	if _, err := s.Authorize(t.Context(), pump()); err != nil {
		t.Fatal(err)
	}
	if authorization != "Bearer "+secretToken || body != `{"username":"","password":"","clientid":"pump-7"}` {
		t.Errorf("the service got %d bytes of authorization and %s", len(authorization), body)
	}
	status, answer = http.StatusUnauthorized, ""
	if _, err := s.Authorize(t.Context(), pump()); !errors.Is(err, authz.ErrDenied) {
		t.Errorf("401: %v, want a denial", err)
	}
	status = http.StatusInternalServerError
	if _, err := s.Authorize(t.Context(), pump()); err == nil || errors.Is(err, authz.ErrDenied) {
		t.Errorf("500: %v, want an error that is no denial", err)
	}
}
