package tokenjwt

import (
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"
)

// FuzzAuthorize: no text but the valid seed is granted.
func FuzzAuthorize(f *testing.F) {
	k := keyring()
	good := signed(f, jose.ES256, k.p256, "k1", claims(nil))
	parts := strings.Split(good, ".")
	for _, text := range []string{
		good, signed(f, jose.RS256, k.rsa, "", claims(nil)), signed(f, jose.HS256, k.secret, "k1", claims(nil)), "", "..", "a.b.c",
		parts[0] + "..", parts[0] + "." + parts[1] + ".", "." + parts[1] + "." + parts[2], "eyJhbGciOiJub25lIn0.e30.", "e30.e30.AA",
	} {
		f.Add(text)
	}
	s := loaded(f, strict(Keys{}), always(named(f, "k1", k.p256.Public())))
	f.Fuzz(func(t *testing.T, text string) {
		got := outcome(t, s, request(text))
		if (got == "granted") != (text == good) {
			t.Errorf("%s", got)
		}
	})
}

// FuzzParseJWKS: a set that is accepted contains usable keys.
func FuzzParseJWKS(f *testing.F) {
	k := keyring()
	f.Add(jwks(f, jwk(f, k.rsa.Public(), map[string]any{"alg": "PS256", "use": "sig"}), jwk(f, k.p52.Public(), map[string]any{"key_ops": []string{"verify"}})))
	f.Add(jwks(f, jwk(f, k.ed.Public(), map[string]any{"kid": "a"}), map[string]any{"kty": "oct", "k": "AA"}))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Add([]byte(`{"keys":[],"keys":[]}`))
	var o Options
	allowed, err := o.algorithms()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		set, err := parseJWKS(content, allowed)
		if err != nil {
			return
		}
		for _, k := range set.keys {
			if _, secret := k.material.([]byte); secret || len(k.algorithms) == 0 {
				t.Errorf("a key of type %T for %v", k.material, k.algorithms)
			}
		}
		if len(set.keys) == 0 || len(set.keys) > maxKeys {
			t.Errorf("%d keys", len(set.keys))
		}
	})
}

// TestTampering: a valid token with a changed byte grants what the issuer signed, or nothing.
func TestTampering(t *testing.T) {
	o := strict(Keys{})
	var sources []*Source
	var tokens []string
	for alg, private := range signers() {
		keys := Keys{Secret: file(t, keyring().secret)}
		if _, secret := private.([]byte); !secret {
			keys = Keys{PEM: file(t, publicPEM(t, publicOf(t, private)))}
		}
		o.Keys = keys
		sources = append(sources, opened(t, o))
		tokens = append(tokens, signed(t, alg, private, "k1", claims(nil)))
	}
	rapid.Check(t, func(r *rapid.T) {
		i := rapid.IntRange(0, len(tokens)-1).Draw(r, "algorithm")
		text := []byte(tokens[i])
		at := rapid.IntRange(0, len(text)-1).Draw(r, "at")
		switch rapid.IntRange(0, 3).Draw(r, "how") {
		case 0:
			text[at] = rapid.Byte().Draw(r, "byte")
		case 1: // within the alphabet, which gets further
			text[at] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."[rapid.IntRange(0, 64).Draw(r, "digit")]
		case 2:
			text = append(text[:at], text[at+1:]...)
		case 3:
			text = append(text[:at+1], text[at:]...)
		}
		want := "unknown_token"
		if string(text) == tokens[i] {
			want = "granted"
		}
		if got := outcome(t, sources[i], request(string(text))); got != want {
			r.Errorf("%s, want %s", got, want)
		}
	})
}
