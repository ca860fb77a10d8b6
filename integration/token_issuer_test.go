//go:build integration

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// issuer signs tokens with ES256 and publishes its key.
type issuer struct {
	t   testing.TB
	kid string
	key *ecdsa.PrivateKey
}

func newIssuer(t testing.TB, kid string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, kid: kid, key: key}
}

// keys is the JWK Set of the issuer.
func (i *issuer) keys() string {
	i.t.Helper()
	public, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		i.t.Fatal(err)
	}
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","use":"sig","kid":%q,"x":%q,"y":%q}]}`,
		i.kid, base64.RawURLEncoding.EncodeToString(public[1:33]), base64.RawURLEncoding.EncodeToString(public[33:]))
}

// sign returns a token with the given claims (RFC 7515 appendix A.3).
func (i *issuer) sign(p *proxy, claims map[string]any) string {
	i.t.Helper()
	encode := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			i.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	text := encode(map[string]any{"alg": "ES256", "kid": i.kid, "typ": "JWT"}) + "." + encode(claims)
	hash := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, hash[:])
	if err != nil {
		i.t.Fatal(err)
	}
	token := text + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	p.keep(token)
	return token
}

// publishKeys makes a service that hands out what keys returns.
func publishKeys(t testing.TB) (service *tokenService, publish func(keys string)) {
	t.Helper()
	service = newTokenService(t, nil)
	var keys string
	service.handler = func(w http.ResponseWriter, _ *http.Request) {
		service.mu.Lock()
		defer service.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, keys)
	}
	return service, func(k string) {
		service.mu.Lock()
		defer service.mu.Unlock()
		keys = k
	}
}

// jwtAuth is the section of the proxy's config for an issuer.
func jwtAuth(service *tokenService) string {
	return fmt.Sprintf(`auth:
  recheck: 1s
  sources:
    - jwt: {url: 'http://%s/jwks.json', issuers: ['https://id.example'], audiences: [mqtt], refresh: 10s, acl: rights}
`, service.address)
}

func claims(subject string) map[string]any {
	return map[string]any{"iss": "https://id.example", "aud": "mqtt", "sub": subject, "exp": time.Now().Add(time.Hour).Unix()}
}

// TestKeyRotation: an issuer changes its key. The new key's tokens are good
// without a restart; the old key's are good for nothing, nor are their sessions.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	service, publish := publishKeys(t)
	service.start()
	old, now := newIssuer(t, "2026-1"), newIssuer(t, "2026-2")
	publish(old.keys())
	p := newProxy(t, jwtAuth(service))
	oldToken, newToken := old.sign(p, claims("pump-7")), now.sign(p, claims("pump-7"))
	p.start()
	live := connect(t, dial(t, p.plain), identity(5, "live", oldToken))
	if _, ack := present(t, dial(t, p.plain), identity(5, "early", newToken)); ack.Code != packets.ServerUnavailable {
		t.Errorf("a token of a key that may have been made after the last reading gets %v", ack.Code)
	}
	publish(now.keys())
	rotated := time.Now()
	eventually(t, "the new key's way in", func() bool {
		_, ack := present(t, dial(t, p.plain), identity(5, "new", newToken))
		return ack.Code == packets.Success
	})
	t.Logf("the new key is good %v after it was published", time.Since(rotated).Round(time.Millisecond))
	for level, want := range map[byte]packets.ReasonCode{4: packets.RefusedNotAuthorized, 5: packets.BadUserNameOrPassword} {
		if _, ack := present(t, dial(t, p.plain), identity(level, "old", oldToken)); ack.Code != want {
			t.Errorf("level %d: the old key's token gets %v, want %v", level, ack.Code, want)
		}
	}
	if code, err := live.farewell(patience); err != nil {
		t.Errorf("the old key's session: %v, %v", code, err)
	} else {
		t.Logf("the old key's session ended with %v", code)
	}
	// The issuer goes away: what is known of its keys stays.
	service.stop()
	connect(t, dial(t, p.plain), identity(5, "new", newToken))
}

// TestJWTClaims: what the claims say is what mosquitto_pub tells.
func TestJWTClaims(t *testing.T) {
	t.Parallel()
	service, publish := publishKeys(t)
	service.start()
	signer, forger := newIssuer(t, "k"), newIssuer(t, "k")
	publish(signer.keys())
	p := newProxy(t, jwtAuth(service))
	p.start()
	with := func(name string, value any) map[string]any {
		c := claims("pump-7")
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	good := signer.sign(p, claims("pump-7"))
	head, rest, _ := strings.Cut(good, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + rest[:strings.Index(rest, ".")] + "."
	p.keep(head + "." + rest)
	for name, tt := range map[string]struct {
		token  string
		v3, v5 int
	}{
		"good":             {good, 0, 0},
		"expired":          {signer.sign(p, with("exp", time.Now().Unix()-1)), 5, 0x87},
		"without exp":      {signer.sign(p, with("exp", nil)), 5, 0x87},
		"not yet":          {signer.sign(p, with("nbf", time.Now().Unix()+600)), 5, 0x87},
		"another audience": {signer.sign(p, with("aud", "web")), 5, 0x87},
		"another issuer":   {signer.sign(p, with("iss", "https://elsewhere.example")), 5, 0x86},
		"forged":           {forger.sign(p, claims("pump-7")), 5, 0x86},
		"unsigned":         {unsigned, 5, 0x86},
		"no JWT":           {"not-a-jwt", 5, 0x86},
	} {
		for version, want := range map[string]int{"mqttv311": tt.v3, "mqttv5": tt.v5} {
			r := mosquittoPub(t, append(p.clientArgs(tt.token), "-V", version, "-q", "1", "-t", "v1/devices/me/telemetry", "-m", `{"a":1}`)...)
			if r.status != want {
				t.Errorf("%s, %s: status %d, want %d\n%s", name, version, r.status, want, r.all())
			}
		}
	}
	ruled := with("rights", map[string]any{"pub": []string{"plant/${subject}/#"}})
	d := connect(t, dial(t, p.plain), identity(5, "ruled", signer.sign(p, ruled)))
	if err := d.publish("plant/pump-7/level", "x"); err != nil {
		t.Errorf("an allowed topic: %v", err)
	}
	if err := d.publish("plant/other", "x"); err == nil || !strings.Contains(err.Error(), packets.NotAuthorized.String()) {
		t.Errorf("a forbidden topic: %v", err)
	}
	short := connect(t, dial(t, p.plain), identity(5, "short", signer.sign(p, with("exp", time.Now().Unix()+3))))
	begun := time.Now()
	if code, err := short.farewell(patience); err != nil || code != packets.NotAuthorized || time.Since(begun) > 3*time.Second+promised+busy {
		t.Errorf("the session ended with %v, %v after %v, its token after 3s", code, err, time.Since(begun))
	}
}
