//go:build integration

package integration

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestKeyRotation: an issuer changes its key. Tokens of the new key are accepted without
// a restart. Tokens of the old key are refused, and their sessions end.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	service, publish := harness.PublishKeys(t)
	service.Start()
	old, now := harness.NewIssuer(t, "2026-1"), harness.NewIssuer(t, "2026-2")
	publish(old.Keys())
	p := harness.NewProxy(t, harness.JWTAuth(service))
	oldToken, newToken := old.Sign(p, harness.Claims("pump-7")), now.Sign(p, harness.Claims("pump-7"))
	p.Start()
	live := p.Connect(t, 5, "live", oldToken)
	if _, ack := p.Present(t, 5, "early", newToken); ack.Code != packets.ServerUnavailable {
		t.Errorf("a token of a key that may have been made after the last reading gets %v", ack.Code)
	}
	publish(now.Keys())
	rotated := time.Now()
	harness.Eventually(t, "the new key's way in", func() bool {
		_, ack := p.Present(t, 5, "new", newToken)
		return ack.Code == packets.Success
	})
	t.Logf("the new key is good %v after it was published", time.Since(rotated).Round(time.Millisecond))
	for level, want := range map[byte]packets.ReasonCode{4: packets.RefusedNotAuthorized, 5: packets.BadUserNameOrPassword} {
		if _, ack := p.Present(t, level, "old", oldToken); ack.Code != want {
			t.Errorf("level %d: the old key's token gets %v, want %v", level, ack.Code, want)
		}
	}
	if code, err := live.AwaitEnd(harness.Patience); err != nil {
		t.Errorf("the old key's session: %v, %v", code, err)
	} else {
		t.Logf("the old key's session ended with %v", code)
	}
	// The issuer is down: the keys that were read stay in force.
	service.Stop()
	p.Connect(t, 5, "new", newToken)
}

// TestJWTClaims: the exit status of mosquitto_pub shows how every claim is judged.
func TestJWTClaims(t *testing.T) {
	t.Parallel()
	service, publish := harness.PublishKeys(t)
	service.Start()
	signer, forger := harness.NewIssuer(t, "k"), harness.NewIssuer(t, "k")
	publish(signer.Keys())
	p := harness.NewProxy(t, harness.JWTAuth(service))
	p.Start()
	with := func(name string, value any) map[string]any {
		c := harness.Claims("pump-7")
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	good := signer.Sign(p, harness.Claims("pump-7"))
	head, rest, _ := strings.Cut(good, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + rest[:strings.Index(rest, ".")] + "."
	p.AddSecret(head + "." + rest)
	for name, tt := range map[string]struct {
		token  string
		v3, v5 int
	}{
		"good":             {good, 0, 0},
		"expired":          {signer.Sign(p, with("exp", time.Now().Unix()-1)), 5, 0x87},
		"without exp":      {signer.Sign(p, with("exp", nil)), 5, 0x87},
		"not yet":          {signer.Sign(p, with("nbf", time.Now().Unix()+600)), 5, 0x87},
		"another audience": {signer.Sign(p, with("aud", "web")), 5, 0x87},
		"another issuer":   {signer.Sign(p, with("iss", "https://elsewhere.example")), 5, 0x86},
		"forged":           {forger.Sign(p, harness.Claims("pump-7")), 5, 0x86},
		"unsigned":         {unsigned, 5, 0x86},
		"no JWT":           {"not-a-jwt", 5, 0x86},
	} {
		for version, want := range map[string]int{"mqttv311": tt.v3, "mqttv5": tt.v5} {
			r := harness.MosquittoPub(t, append(p.ClientArgs(tt.token), "-V", version, "-q", "1", "-t", "v1/devices/me/telemetry", "-m", `{"a":1}`)...)
			if r.Status != want {
				t.Errorf("%s, %s: status %d, want %d\n%s", name, version, r.Status, want, r.Output())
			}
		}
	}
	ruled := with("rights", map[string]any{"pub": []string{"plant/${subject}/#"}})
	d := p.Connect(t, 5, "ruled", signer.Sign(p, ruled))
	if err := d.Publish("plant/pump-7/level", "x"); err != nil {
		t.Errorf("an allowed topic: %v", err)
	}
	if err := d.Publish("plant/other", "x"); err == nil || !strings.Contains(err.Error(), packets.NotAuthorized.String()) {
		t.Errorf("a forbidden topic: %v", err)
	}
	short := p.Connect(t, 5, "short", signer.Sign(p, with("exp", time.Now().Unix()+10)))
	begun := time.Now()
	if code, err := short.AwaitEnd(harness.Patience); err != nil || code != packets.NotAuthorized || time.Since(begun) > 10*time.Second+harness.WithdrawalLimit+harness.Slack {
		t.Errorf("the session ended with %v, %v after %v, its token after 10s", code, err, time.Since(begun))
	}
}
