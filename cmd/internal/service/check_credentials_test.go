package service

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// TestCheckOfCredentialsAsksLikeAConnection: sources are asked in their order until one decides,
// and the denials of operators stand before all of them.
func TestCheckOfCredentialsAsksLikeAConnection(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens.jsonl")
	made, err := tokenfile.Create(tokens, tokenfile.CreateOptions{Name: "pump"})
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer service.Close()
	path := filepath.Join(dir, "proxy.yaml")
	text := "data: " + dir + "\nauth: {sources: [{file: {path: " + tokens + "}}, {http: {url: \"" + service.URL + "\"}}]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(token authz.Token) CredentialsAnswer {
		t.Helper()
		plan, err := Load(config.Options{Path: path}, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer plan.Close()
		a, err := plan.CheckCredentials(t.Context(), Credentials{Token: token, ClientID: "c", Protocol: 5})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := check(made.Token); a.Grant == nil || a.Grant.Subject != "pump" || len(a.Asked) != 1 || asked.Load() != 0 {
		t.Errorf("a good token: %+v, and the service was asked %d times", a, asked.Load())
	}
	a := check(authz.NewToken("token-of-nobody-here"))
	if a.Grant != nil || a.Denied || a.Reason != proxy.SourceUnavailable || len(a.Asked) != 2 || asked.Load() == 0 {
		t.Errorf("a token that only a service that is down might know: %+v", a)
	}
	if a.Asked[0].Source != "auth.sources[0].file" || !errors.Is(a.Asked[0].Err, authz.ErrUnknown) {
		t.Errorf("the first answer is %+v", a.Asked[0])
	}
	denials, err := denylist.Open(filepath.Join(dir, denialsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(denials.Deny(authz.Revocation{Subject: "pump"}, time.Now().Add(time.Hour), false), denials.Save()); err != nil {
		t.Fatal(err)
	}
	if a := check(made.Token); a.Grant != nil || !a.Denied || a.Reason != proxy.Reason(authz.Revoked) {
		t.Errorf("a denied device: %+v", a)
	}
}
