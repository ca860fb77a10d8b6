package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// denials returns how many denials are in force according to the status.
func denials(t *testing.T, s *Service) int {
	t.Helper()
	_, body := get(t, s, "/v1/status")
	var st struct{ Denials int }
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatal(err)
	}
	return st.Denials
}

// TestTokenOfAFileIsDenied: a denial counts before every source, also one that knows the
// token.
func TestTokenOfAFileIsDenied(t *testing.T) {
	for name, body := range map[string]func(s *Service) string{
		"token":   func(s *Service) string { return `{"token":"` + s.demo.token.Reveal() + `","mode":"deny"}` },
		"subject": func(*Service) string { return `{"subject":"demo","mode":"deny"}` },
		"token id": func(s *Service) string {
			for c := range s.server.Clients() {
				return `{"token_id":"` + c.Grant.TokenID + `","mode":"deny"}`
			}
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := startService(t, bundledConfig)
			live, _ := login(t, s, asDemo(s, 5))
			if status, answer := call(t, s, http.MethodPost, "/v1/revocations", body(s)); status != 200 || strings.TrimSpace(answer) != `{"entries":0,"sessions":1}` {
				t.Errorf("the denial: %d %s", status, answer)
			}
			if rest, err := io.ReadAll(live); err != nil || len(rest) != 3 || rest[2] != 0x98 {
				t.Errorf("the device got % x, %v; want DISCONNECT 0x98", rest, err)
			}
			if _, ack := login(t, s, asDemo(s, 5)); ack.Code != packets.NotAuthorized {
				t.Errorf("CONNACK %v after the denial", ack.Code)
			}
			if n := denials(t, s); n != 1 {
				t.Errorf("the status has %d denials", n)
			}
			s.Close()
			again, err := restart(t, s)
			if err != nil {
				t.Fatal(err)
			}
			again.start()
			if _, ack := login(t, again, asDemo(s, 5)); ack.Code != packets.NotAuthorized {
				t.Errorf("CONNACK %v after a restart", ack.Code)
			}
		})
	}
}

// TestDenialOfAnotherProcessHolds: a denial that another process has saved, such as the one
// that this process replaces, ends sessions and refuses devices.
func TestDenialOfAnotherProcessHolds(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	live, _ := login(t, s, asDemo(s, 5))
	other, err := denylist.Open(filepath.Join(s.current.Load().config.Data, "denials.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.Deny(authz.Revocation{Subject: "demo"}, time.Now().Add(time.Hour), false), other.Save()); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(live); err != nil || len(rest) != 3 || rest[2] != 0x98 {
		t.Errorf("the device got % x, %v; want DISCONNECT 0x98", rest, err)
	}
	if _, ack := login(t, s, asDemo(s, 5)); ack.Code != packets.NotAuthorized {
		t.Errorf("CONNACK %v", ack.Code)
	}
}

// TestDenialEndsWhenTheOperatorSays: the end of a denial can be moved, to correct a mistake.
func TestDenialEndsWhenTheOperatorSays(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	if status, answer := call(t, s, http.MethodPost, "/v1/revocations", `{"subject":"demo","mode":"deny","until":"2100-01-01T00:00:00Z"}`); status != 200 {
		t.Fatal(answer)
	}
	if _, ack := login(t, s, asDemo(s, 5)); ack.Code != packets.NotAuthorized {
		t.Errorf("CONNACK %v until 2100", ack.Code)
	}
	// The end is rounded up to a whole second, so this one has passed.
	sooner := admin.Withdrawal{Revocation: authz.Revocation{Subject: "demo"}, Deny: true, Until: time.Now().Add(-time.Second)}
	if _, err := s.withdraw(sooner); err != nil {
		t.Fatal(err)
	}
	if _, ack := login(t, s, asDemo(s, 5)); ack.Code != packets.Success {
		t.Errorf("CONNACK %v after the end", ack.Code)
	}
}

// denyRequests connects a device with a token that lives that long, and returns each way to
// name it.
func denyRequests(t *testing.T, s *Service, life time.Duration) map[string]authz.Revocation {
	t.Helper()
	file := s.current.Load().config.Auth.Sources[0].File.Path
	made, err := tokenfile.Create(file, tokenfile.CreateOptions{Name: "short", Expires: time.Now().Add(life)})
	if err != nil {
		t.Fatal(err)
	}
	if err := reload(t, s); err != nil {
		t.Fatal(err)
	}
	p := asDemo(s, 5)
	p.Username = made.Token.Reveal()
	login(t, s, p)
	return map[string]authz.Revocation{
		"token": {TokenHash: made.Token.Hash()}, "token id": {TokenID: made.ID}, "subject": {Subject: "short"}, "stranger": {Subject: "stranger"},
	}
}

// TestDenialWithoutAnEnd: such a denial holds as long as the tokens of the live sessions, or
// for a day.
func TestDenialWithoutAnEnd(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	now := time.Now()
	r := denyRequests(t, s, 720*time.Hour)
	for name, want := range map[string]time.Duration{"token": 720 * time.Hour, "token id": 720 * time.Hour, "subject": 720 * time.Hour, "stranger": 24 * time.Hour} {
		if got := s.denyUntil(r[name], now); got.Sub(now.Add(want)).Abs() > time.Minute {
			t.Errorf("%s: until %v, want in %v", name, got, want)
		}
	}
	s, _ = startService(t, bundledConfig)
	r = denyRequests(t, s, time.Hour)
	for name, want := range map[string]time.Duration{"token": time.Hour, "token id": time.Hour, "subject": 24 * time.Hour} {
		if got := s.denyUntil(r[name], now); got.Sub(now.Add(want)).Abs() > time.Minute {
			t.Errorf("%s of a short token: until %v, want in %v", name, got, want)
		}
	}
}

// TestFullDenyListIsAnError: the answer says that the token is not withdrawn.
func TestFullDenyListIsAnError(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	s.Close()
	var text strings.Builder
	for i := range denylist.Max {
		fmt.Fprintf(&text, `{"token_id":"%d","until":"2100-01-01T00:00:00Z"}`+"\n", i)
	}
	path := filepath.Join(s.current.Load().config.Data, "denials.jsonl")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := restart(t, s)
	if err != nil {
		t.Fatal(err)
	}
	again.start()
	if status, answer := call(t, again, http.MethodPost, "/v1/revocations", `{"subject":"demo","mode":"deny"}`); status != 507 || !strings.Contains(answer, "100000 denials are in force") {
		t.Errorf("%d %s", status, answer)
	}
	if n := denials(t, again); n != denylist.Max {
		t.Errorf("%d denials are in force", n)
	}
}

// TestDamagedDenialsStopTheStart: a token that was withdrawn must not become good unnoticed.
func TestDamagedDenialsStopTheStart(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	s.Close()
	path := filepath.Join(s.current.Load().config.Data, "denials.jsonl")
	if err := os.WriteFile(path, []byte("{\"subject\":\"de"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := restart(t, s); err == nil || !strings.Contains(err.Error(), path+":1: ") {
		t.Errorf("New = %v", err)
	}
}

// TestRevocationIsLoggedByWhatItNames: by that field and no empty one, and a token by its
// fingerprint.
func TestRevocationIsLoggedByWhatItNames(t *testing.T) {
	token := authz.NewToken("a-token-that-is-withdrawn")
	for _, tt := range []struct {
		field, object string
		revocation    authz.Revocation
	}{
		{`"token_id":"pump-7-k3x2aa"`, `"object":"token id pump-7-k3x2aa"`, authz.Revocation{TokenID: "pump-7-k3x2aa"}},
		{`"subject":"pump-7"`, `"object":"pump-7"`, authz.Revocation{Subject: "pump-7"}},
		{`"token":"` + token.Fingerprint() + `"`, `"object":"token ` + token.Fingerprint() + `"`, authz.Revocation{TokenHash: token.Hash()}},
	} {
		s, log := startService(t, bundledConfig)
		s.revoked([]authz.Revocation{tt.revocation}, 3)
		if _, _, err := s.api().Revoke(admin.By(t.Context(), "test"), admin.Withdrawal{Revocation: tt.revocation}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{tt.field, tt.object} {
			if strings.Count(log.String(), want) != 1 || strings.Contains(log.String(), `:""`) {
				t.Errorf("%s is not in one line of %s", want, log.String())
			}
		}
	}
}
