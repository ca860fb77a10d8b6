package tokenjwt

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// ring has a key of each kind. All tests share it, because making the RSA key takes long.
type ring struct {
	rsa                    *rsa.PrivateKey
	p256, other, p384, p52 *ecdsa.PrivateKey
	ed                     ed25519.PrivateKey
	secret                 []byte
}

var keyring = sync.OnceValue(func() ring {
	ec := func(c elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return ring{
		rsa: r, p256: ec(elliptic.P256()), other: ec(elliptic.P256()), p384: ec(elliptic.P384()), p52: ec(elliptic.P521()), ed: ed,
		secret: []byte(strings.Repeat("a secret of 64 bytes ", 4)[:64]),
	}
})

// signed returns a token with the given claims.
func signed(tb testing.TB, alg jose.SignatureAlgorithm, private any, kid string, claims any) string {
	tb.Helper()
	header := map[jose.HeaderKey]any{}
	if kid != "" {
		header["kid"] = kid
	}
	return signedWith(tb, alg, private, header, claims)
}

func signedWith(tb testing.TB, alg jose.SignatureAlgorithm, private any, header map[jose.HeaderKey]any, claims any) string {
	tb.Helper()
	payload, ok := claims.(string)
	if !ok {
		raw, err := json.Marshal(claims)
		if err != nil {
			tb.Fatal(err)
		}
		payload = string(raw)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: private}, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		tb.Fatal(err)
	}
	signature, err := signer.Sign([]byte(payload))
	if err != nil {
		tb.Fatal(err)
	}
	text, err := signature.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// claims returns the claims of a valid token with changes; nil removes a claim.
func claims(changes map[string]any) map[string]any {
	all := map[string]any{
		"iss": "https://id.example/", "aud": "mqtt", "sub": "pump-7", "jti": "pump-7-a",
		"iat": time.Now().Unix() - 60, "exp": time.Now().Unix() + 3600,
	}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return all
}

// jwk returns the public form of a key with further members.
func jwk(tb testing.TB, public any, members map[string]any) map[string]any {
	tb.Helper()
	raw, err := jose.JSONWebKey{Key: public}.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		tb.Fatal(err)
	}
	maps.Copy(object, members)
	return object
}

func jwks(tb testing.TB, members ...map[string]any) []byte {
	tb.Helper()
	raw, err := json.Marshal(map[string]any{"keys": members})
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// named returns the set of one key with a kid.
func named(tb testing.TB, kid string, public any) []byte {
	tb.Helper()
	return jwks(tb, jwk(tb, public, map[string]any{"kid": kid}))
}

func file(tb testing.TB, content []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "keys")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func publicPEM(tb testing.TB, public any) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func publicOf(tb testing.TB, private any) crypto.PublicKey {
	tb.Helper()
	signer, ok := private.(crypto.Signer)
	if !ok {
		tb.Fatalf("%T has no public key", private)
	}
	return signer.Public()
}

// strict are the options of most tests, without keys.
func strict(k Keys) Options {
	return Options{Keys: k, Issuers: []string{"https://id.example/"}, Audiences: []string{"mqtt", "other"}}
}

func opened(tb testing.TB, o Options) *Source {
	tb.Helper()
	s, err := Open(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// loaded opens a source whose keys come from load.
func loaded(tb testing.TB, o Options, load loader) *Source {
	tb.Helper()
	if o.Keys == (Keys{}) {
		o.Keys.URL = "https://id.example/jwks"
	}
	s, err := open(tb.Context(), o, load)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func always(content []byte) loader {
	return func(context.Context) (document, error) { return document{content: content}, nil }
}

func request(token string) authz.Request { return authz.Request{Token: authz.NewToken(token)} }

// outcome asks and returns "granted", the reason of a denial, or "unavailable". It reports
// answers that contain the token.
func outcome(tb testing.TB, s *Source, r authz.Request) string {
	tb.Helper()
	g, err := s.Authorize(tb.Context(), r)
	switch d, denied := errors.AsType[*authz.Denial](err); {
	case err == nil && g != nil:
		return "granted"
	case err == nil || g != nil:
		tb.Errorf("both or none of a grant and an error: %v", err)
		return "malformed"
	case mentions(err, r.Token.Reveal()):
		tb.Error("the error mentions the token")
		return "malformed"
	case denied:
		return string(d.Reason)
	case errors.Is(err, authz.ErrDenied) || !errors.Is(err, authz.ErrUnavailable):
		tb.Errorf("neither a denial nor unavailable: %v", err)
		return "malformed"
	}
	return "unavailable"
}

// mentions reports whether err contains twelve consecutive characters of the token, encoded or
// decoded. The issuer, the key and the algorithm may be named.
func mentions(err error, token string) bool {
	text := err.Error()
	for _, name := range []string{"iss", "kid", "alg"} {
		for part := range strings.SplitSeq(token, ".") {
			decoded, _ := base64.RawURLEncoding.DecodeString(part)
			object, _ := strictjson.Parse(decoded)
			if value, _ := textOf(object, name); value != "" {
				text = strings.ReplaceAll(text, quoted(value), "")
			}
		}
	}
	pieces := []string{token}
	for part := range strings.SplitSeq(token, ".") {
		decoded, _ := base64.RawURLEncoding.DecodeString(part)
		pieces = append(pieces, string(decoded))
	}
	for _, piece := range pieces {
		for i := 0; i+12 <= len(piece); i++ {
			if strings.Contains(text, piece[i:i+12]) {
				return true
			}
		}
	}
	return false
}
