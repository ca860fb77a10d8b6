package service

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// codeFor connects with a token and returns the reason code of the CONNACK.
func codeFor(t *testing.T, s *Service, token string) packets.ReasonCode {
	t.Helper()
	nc, ack := login(t, s, packets.Connect{Level: 5, CleanStart: true, HasUsername: true, Username: token})
	nc.Close()
	return ack.Code
}

// useUpBudget tries wrong tokens until the address has no budget left.
func useUpBudget(t *testing.T, s *Service) {
	t.Helper()
	for i := range 200 {
		switch code := codeFor(t, s, fmt.Sprint("wrong-token-", i)); {
		case code == packets.ConnectionRateExceeded && i >= 20:
			return
		case code != packets.BadUserNameOrPassword:
			t.Fatalf("wrong token %d gets %v", i, code)
		}
	}
	t.Fatal("200 wrong tokens from one address, and each was checked")
}

// TestGuardProtectsTokenFiles: an address may try only so many tokens, also after a
// reload. Devices behind it get in if they are known or if their token cannot be guessed.
func TestGuardProtectsTokenFiles(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens.jsonl")
	for _, token := range []string{"short-tk", "other-tk", "a-token-of-twenty-by"} {
		if _, err := tokenfile.Create(tokens, tokenfile.CreateOptions{Name: token, Token: authz.NewToken(token)}); err != nil {
			t.Fatal(err)
		}
	}
	// The slowest rate there is: the budget stays used up for the test.
	config := bundledConfig + "auth: {guard: {rate: 1, burst: 20}, sources: [{file: {path: " + tokens + "}}]}\n"
	s, log := startService(t, config)
	if code := codeFor(t, s, "short-tk"); code != packets.Success {
		t.Fatalf("a device gets %v", code)
	}
	useUpBudget(t, s)
	another := emptyTokenFile(t)
	edit(t, s, strings.Replace(config, "sources: [", "sources: [{file: {path: "+another+"}}, ", 1))
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]packets.ReasonCode{
		"short-tk": packets.Success, "a-token-of-twenty-by": packets.Success,
	} {
		if code := codeFor(t, s, token); code != want {
			t.Errorf("%s gets %v, want %v", token, code, want)
		}
	}
	if status, body := call(t, s, http.MethodPost, "/v1/revocations", `{"subject":"a-token-of-twenty-by","mode":"deny"}`); status != http.StatusOK {
		t.Fatal(body)
	}
	if code := codeFor(t, s, "a-token-of-twenty-by"); code == packets.Success {
		t.Error("a denied token gets in by an address without a budget")
	}
	if n := s.current.Load().sources.guard.Stats().Charged; n < 20 {
		t.Errorf("the reload has given the address a new budget: %d failures are remembered", n)
	}
	if strings.Contains(log.String(), "wrong-token-1") {
		t.Error("the log has a token")
	}
}

// TestGuardSeesTheLastSource: a token that one source does not know, but another one does,
// costs no budget.
func TestGuardSeesTheLastSource(t *testing.T) {
	url, _ := startTokenService(t, "device")
	s, _ := startService(t, bundledConfig+"auth: {guard: {rate: 1, burst: 3}, sources: [{file: {path: "+emptyTokenFile(t)+"}}, {http: {url: '"+url+"', timeout: 1m}}]}\n")
	for i := range 50 {
		if code := codeFor(t, s, fmt.Sprint("token-", i)); code != packets.Success {
			t.Fatalf("device %d gets %v", i, code)
		}
	}
}

// TestFaultsNameTheirService: with several token services the log says which one is at
// fault. A service that is down is unavailable, not busy.
func TestFaultsNameTheirService(t *testing.T) {
	ignores := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"result":"ignore"}`))
	}))
	defer ignores.Close()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer down.Close()
	for name, tc := range map[string]struct{ sources, want string }{
		"one":     {"{http: {url: '" + down.URL + "/a'}}", "token service: unavailable: it answers 502"},
		"several": {"{http: {url: '" + ignores.URL + "/a'}}, {http: {url: '" + down.URL + "/b'}}", "http1, " + strings.TrimPrefix(down.URL, "http://") + ": token service: unavailable: it answers 502"},
	} {
		t.Run(name, func(t *testing.T) {
			s, log := startService(t, bundledConfig+"auth: {sources: ["+tc.sources+"]}\n")
			for i := range 30 {
				if code := codeFor(t, s, fmt.Sprint("some-token-", i)); code != packets.ServerUnavailable {
					t.Fatalf("device %d gets %v", i, code)
				}
			}
			await(t, "line with "+tc.want, func() bool { return strings.Contains(log.String(), tc.want) })
			if strings.Contains(log.String(), "busy") {
				t.Error("a service that is down is called busy")
			}
		})
	}
}
