//go:build integration

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestDeniedJWT: a JWT is revoked by token, by identifier and by subject before it
// expires. Its session ends and the token stays refused, although its signature is valid,
// and also after a crash.
func TestDeniedJWT(t *testing.T) {
	t.Parallel()
	service, publish := harness.PublishKeys(t)
	service.Start()
	signer := harness.NewIssuer(t, "k")
	publish(signer.Keys())
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+harness.JWTAuth(service))
	names := []string{"token", "token_id", "subject"}
	tokens := map[string]string{}
	for _, name := range append(names, "other") {
		c := harness.Claims("pump-" + name)
		c["jti"] = "id-" + name
		tokens[name] = signer.Sign(p, c)
	}
	p.Start()
	other := p.Connect(t, 5, "other", tokens["other"])
	for _, name := range names {
		live := p.Connect(t, 5, name, tokens[name])
		value := map[string]string{"token": tokens[name], "token_id": "id-token_id", "subject": "pump-subject"}[name]
		if status, answer := p.Request(http.MethodPost, "/v1/revocations", fmt.Sprintf(`{%q:%q,"mode":"deny"}`, name, value)); status != 200 || answer != `{"entries":0,"sessions":1}` {
			t.Errorf("%s: %d %s", name, status, answer)
		}
		if code, err := live.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
			t.Errorf("%s: its session: %v, %v", name, code, err)
		}
	}
	stayOut := func(when string) {
		t.Helper()
		for _, name := range names {
			for level, want := range map[byte]packets.ReasonCode{4: packets.RefusedNotAuthorized, 5: packets.NotAuthorized} {
				if _, ack := p.Present(t, level, name, tokens[name]); ack.Code != want {
					t.Errorf("%s: denied by its %s it gets %v, want %v", when, name, ack.Code, want)
				}
			}
		}
		if _, status := p.Get("/v1/status"); !strings.Contains(status, `"denials":3`) {
			t.Errorf("%s: the status is %s", when, status)
		}
	}
	stayOut("at once")
	if err := other.Publish("a", "b"); err != nil {
		t.Errorf("another device: %v", err)
	}
	p.Kill()
	p.Start()
	stayOut("after a crash")
	p.Connect(t, 5, "other", tokens["other"])
	if info, err := os.Stat(filepath.Join(p.Data, "denials.jsonl")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of denials: %v, %v", info, err)
	}
	if text := harness.ReadFile(t, filepath.Join(p.Data, "denials.jsonl")); strings.Contains(text, tokens["token"]) {
		t.Error("the file holds a token")
	}
}
