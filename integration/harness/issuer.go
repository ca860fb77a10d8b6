package harness

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
	"testing"
	"time"
)

// Issuer signs tokens with ES256.
type Issuer struct {
	t   testing.TB
	kid string
	key *ecdsa.PrivateKey
}

// NewIssuer returns an issuer with a new key of that identifier.
func NewIssuer(t testing.TB, kid string) *Issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Issuer{t: t, kid: kid, key: key}
}

// Keys returns the JWK Set of the issuer.
func (i *Issuer) Keys() string {
	i.t.Helper()
	public, err := i.key.PublicKey.Bytes() // the byte 4, then x and y
	if err != nil {
		i.t.Fatal(err)
	}
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","use":"sig","kid":%q,"x":%q,"y":%q}]}`,
		i.kid, base64.RawURLEncoding.EncodeToString(public[1:33]), base64.RawURLEncoding.EncodeToString(public[33:]))
}

// Sign returns a token with the given claims (RFC 7515 appendix A.3), which p must never
// print.
func (i *Issuer) Sign(p *Proxy, claims map[string]any) string {
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
	p.AddSecret(token)
	return token
}

// PublishKeys returns a service, not started, that serves a JWK Set, and a function that
// sets the JWK Set.
func PublishKeys(t testing.TB) (service *TokenService, publish func(keys string)) {
	t.Helper()
	service = NewTokenService(t, nil)
	var keys string
	service.Handler = func(w http.ResponseWriter, _ *http.Request) {
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

// JWTAuth returns the section auth of a config that accepts the tokens of an issuer whose
// keys the service serves.
func JWTAuth(service *TokenService) string {
	return fmt.Sprintf(`auth:
  recheck: 1s
  sources:
    - jwt: {url: 'http://%s/jwks.json', issuers: ['https://id.example'], audiences: [mqtt], refresh: 10s, acl: rights}
`, service.Address)
}

// Claims returns claims that JWTAuth accepts. They are valid for an hour.
func Claims(subject string) map[string]any {
	return map[string]any{"iss": "https://id.example", "aud": "mqtt", "sub": subject, "exp": time.Now().Add(time.Hour).Unix()}
}
