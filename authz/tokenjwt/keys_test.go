package tokenjwt

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// signers has all algorithms with a key for each.
func signers() map[jose.SignatureAlgorithm]any {
	k := keyring()
	all := map[jose.SignatureAlgorithm]any{
		jose.ES256: k.p256, jose.ES384: k.p384, jose.ES512: k.p52, jose.EdDSA: k.ed,
		jose.HS256: k.secret, jose.HS384: k.secret, jose.HS512: k.secret,
	}
	for _, alg := range rsaAlgorithms() {
		all[alg] = k.rsa
	}
	return all
}

// TestAlgorithms signs with every algorithm and asks sources with every kind of key: only a
// source whose key is meant for the algorithm grants.
func TestAlgorithms(t *testing.T) {
	k := keyring()
	rs := "RS256 RS384 RS512 PS256 PS384 PS512"
	for name, tc := range map[string]struct {
		keys  Keys
		good  string
		limit []string
	}{
		"RSA":               {keys: Keys{PEM: file(t, publicPEM(t, k.rsa.Public()))}, good: rs},
		"RSA, limited":      {keys: Keys{PEM: file(t, publicPEM(t, k.rsa.Public()))}, good: "PS512", limit: []string{"PS512", "ES256"}},
		"P-256":             {keys: Keys{PEM: file(t, publicPEM(t, k.p256.Public()))}, good: "ES256"},
		"P-384":             {keys: Keys{PEM: file(t, publicPEM(t, k.p384.Public()))}, good: "ES384"},
		"P-521":             {keys: Keys{PEM: file(t, publicPEM(t, k.p52.Public()))}, good: "ES512"},
		"Ed25519":           {keys: Keys{PEM: file(t, publicPEM(t, k.ed.Public()))}, good: "EdDSA"},
		"two in one file":   {keys: Keys{PEM: file(t, append(publicPEM(t, k.ed.Public()), publicPEM(t, k.p384.Public())...))}, good: "EdDSA ES384"},
		"secret":            {keys: Keys{Secret: file(t, k.secret)}, good: "HS256 HS384 HS512"},
		"secret, limited":   {keys: Keys{Secret: file(t, k.secret)}, good: "HS384", limit: []string{"HS384"}},
		"secret and LF":     {keys: Keys{Secret: file(t, append(k.secret[:64:64], '\n'))}, good: "HS256 HS384 HS512"},
		"secret and CRLF":   {keys: Keys{Secret: file(t, append(k.secret[:64:64], "\r\n"...))}, good: "HS256 HS384 HS512"},
		"secret in base64":  {keys: Keys{Secret: file(t, []byte("base64:"+base64.StdEncoding.EncodeToString(k.secret)+"\n"))}, good: "HS256 HS384 HS512"},
		"secret and spaces": {keys: Keys{Secret: file(t, append(k.secret[:64:64], ' '))}, good: ""},
		"set": {keys: Keys{File: file(t, jwks(t, jwk(t, k.rsa.Public(), nil), jwk(t, k.p52.Public(), nil), jwk(t, k.ed.Public(), nil)))},
			good: rs + " ES512 EdDSA"},
		"set with alg": {keys: Keys{File: file(t, jwks(t, jwk(t, k.rsa.Public(), map[string]any{"alg": "RS256"})))}, good: "RS256"},
	} {
		t.Run(name, func(t *testing.T) {
			o := strict(tc.keys)
			o.Algorithms = tc.limit
			s := opened(t, o)
			for alg, private := range signers() {
				want := "unknown_token"
				if strings.Contains(" "+tc.good+" ", " "+string(alg)+" ") {
					want = "granted"
				}
				if got := outcome(t, s, request(signed(t, alg, private, "", claims(nil)))); got != want {
					t.Errorf("%s is %s, want %s", alg, got, want)
				}
			}
		})
	}
}

// TestConfusion signs by HMAC with the public key, in the forms in which it is published.
func TestConfusion(t *testing.T) {
	k := keyring()
	pemText := publicPEM(t, k.rsa.Public())
	der, err := x509.MarshalPKIXPublicKey(k.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	set := named(t, "k1", k.rsa.Public())
	for name, s := range map[string]*Source{
		"PEM": opened(t, strict(Keys{PEM: file(t, pemText)})),
		"set": opened(t, strict(Keys{File: file(t, set)})),
	} {
		for secretName, secret := range map[string][]byte{
			"PEM": pemText, "PEM without its line end": pemText[:len(pemText)-1], "DER": der, "set": set, "modulus": k.rsa.N.Bytes(),
		} {
			for _, kid := range []string{"", "k1"} {
				for _, alg := range []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512} {
					if got := outcome(t, s, request(signed(t, alg, secret, kid, claims(nil)))); got != "unknown_token" {
						t.Errorf("%s with the %s as secret is %s by the %s", alg, secretName, got, name)
					}
				}
			}
		}
		unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
			base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://id.example/"}`)) + "."
		for _, token := range []string{unsigned, unsigned + "AA"} {
			if got := outcome(t, s, request(token)); got != "unknown_token" {
				t.Errorf("an unsigned token is %s by the %s", got, name)
			}
		}
	}
}

// TestSet parses sets with one key of interest besides a valid one that keeps the set usable,
// and checks whether the key of interest is used.
func TestSet(t *testing.T) {
	k := keyring()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	with := func(public any, members map[string]any) map[string]any {
		m := jwk(t, public, map[string]any{"kid": "k1"})
		for name, value := range members {
			m[name] = value
		}
		return m
	}
	type members = map[string]any
	private := map[string]any{}
	for _, name := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth", "priv"} {
		private[name] = "AA"
	}
	for name, tc := range map[string]struct {
		member map[string]any
		alg    jose.SignatureAlgorithm
		key    any
		used   bool
	}{
		"plain":                {with(k.p256.Public(), nil), jose.ES256, k.p256, true},
		"use sig":              {with(k.p256.Public(), members{"use": "sig"}), jose.ES256, k.p256, true},
		"use enc":              {with(k.p256.Public(), members{"use": "enc"}), jose.ES256, k.p256, false},
		"use as list":          {with(k.p256.Public(), members{"use": []string{"sig"}}), jose.ES256, k.p256, false},
		"key_ops verify":       {with(k.p256.Public(), members{"key_ops": []string{"sign", "verify"}}), jose.ES256, k.p256, true},
		"key_ops wrapKey":      {with(k.p256.Public(), members{"key_ops": []string{"wrapKey"}}), jose.ES256, k.p256, false},
		"key_ops empty":        {with(k.p256.Public(), members{"key_ops": []string{}}), jose.ES256, k.p256, false},
		"key_ops as text":      {with(k.p256.Public(), members{"key_ops": "verify"}), jose.ES256, k.p256, false},
		"alg of itself":        {with(k.p256.Public(), members{"alg": "ES256"}), jose.ES256, k.p256, true},
		"alg of another kind":  {with(k.p256.Public(), members{"alg": "RS256"}), jose.ES256, k.p256, false},
		"alg of encryption":    {with(k.rsa.Public(), members{"alg": "RSA-OAEP"}), jose.RS256, k.rsa, false},
		"alg HS256 on RSA":     {with(k.rsa.Public(), members{"alg": "HS256"}), jose.RS256, k.rsa, false},
		"alg as number":        {with(k.p256.Public(), members{"alg": 1}), jose.ES256, k.p256, false},
		"kid as number":        {with(k.p256.Public(), members{"kid": 1}), jose.ES256, k.p256, false},
		"weak RSA":             {with(weak.Public(), nil), jose.RS256, weak, false},
		"point off the curve":  {with(k.p256.Public(), members{"x": jwk(t, k.other.Public(), nil)["x"]}), jose.ES256, k.p256, false},
		"curve of another":     {with(k.p256.Public(), members{"crv": "P-384"}), jose.ES256, k.p256, false},
		"Ed25519 cut short":    {with(k.ed.Public(), members{"x": "AAAA"}), jose.EdDSA, k.ed, false},
		"private":              {with(k.p256.Public(), private), jose.ES256, k.p256, false},
		"useless certificate":  {with(k.p256.Public(), members{"x5c": []string{"?"}, "x5t": "?"}), jose.ES256, k.p256, true},
		"symmetric":            {members{"kty": "oct", "kid": "k1", "k": base64.RawURLEncoding.EncodeToString(k.secret)}, jose.HS256, k.secret, false},
		"unknown type":         {members{"kty": "AKP", "kid": "k1", "alg": "ML-DSA-44", "pub": "AA"}, jose.ES256, k.p256, false},
		"X25519":               {members{"kty": "OKP", "crv": "X25519", "kid": "k1", "x": jwk(t, k.ed.Public(), nil)["x"]}, jose.EdDSA, k.ed, false},
		"unknown member of it": {with(k.p256.Public(), members{"issuer": []any{1}}), jose.ES256, k.p256, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := loaded(t, strict(Keys{}), always(jwks(t, jwk(t, k.p384.Public(), members{"kid": "k2"}), tc.member)))
			want, keys := "unknown_token", 1
			if tc.used {
				want, keys = "granted", 2
			} else if _, ok := tc.member["kid"].(string); !ok {
				want = "unavailable" // no key of the set has the name
			}
			if got := outcome(t, s, request(signed(t, tc.alg, tc.key, "k1", claims(nil)))); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if st := s.Stats(); st.Keys != keys || st.Ignored != 2-keys {
				t.Errorf("%d keys, %d ignored", st.Keys, st.Ignored)
			}
		})
	}
}

// TestChoice: which keys are tried for a token.
func TestChoice(t *testing.T) {
	k := keyring()
	id := func(id string) map[string]any {
		if id == "" {
			return nil
		}
		return map[string]any{"kid": id}
	}
	first, second := jwk(t, k.p256.Public(), id("a")), jwk(t, k.other.Public(), id("a"))
	for name, tc := range map[string]struct {
		set  []map[string]any
		kid  string
		want string
	}{
		"same kid twice":             {[]map[string]any{second, first}, "a", "granted"},
		"no kid, any key":            {[]map[string]any{second, first}, "", "granted"},
		"another kid":                {[]map[string]any{first}, "b", "unavailable"},
		"kid, key without":           {[]map[string]any{jwk(t, k.p256.Public(), nil), jwk(t, k.other.Public(), id("b"))}, "a", "granted"},
		"kid of another, and itself": {[]map[string]any{jwk(t, k.p256.Public(), nil), second}, "a", "unknown_token"},
		"kid of another type":        {[]map[string]any{jwk(t, k.rsa.Public(), id("a")), jwk(t, k.p256.Public(), id("b"))}, "a", "unknown_token"},
	} {
		s := loaded(t, strict(Keys{}), always(jwks(t, tc.set...)))
		if got := outcome(t, s, request(signed(t, jose.ES256, k.p256, tc.kid, claims(nil)))); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	many := make([]map[string]any, maxTries+1)
	for i := range many {
		many[i] = jwk(t, k.other.Public(), id("a"))
	}
	many[maxTries] = first
	s := loaded(t, strict(Keys{}), always(jwks(t, many...)))
	if got := outcome(t, s, request(signed(t, jose.ES256, k.p256, "a", claims(nil)))); got != "unknown_token" {
		t.Errorf("the key behind %d others: %s", maxTries, got)
	}
}

// TestRefusedKeys has contents with which no source starts.
func TestRefusedKeys(t *testing.T) {
	k := keyring()
	der, err := x509.MarshalPKCS8PrivateKey(k.p256)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, content []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	}
	many := make([]map[string]any, maxKeys+1)
	for i := range many {
		many[i] = jwk(t, k.p256.Public(), nil)
	}
	good := publicPEM(t, k.p256.Public())
	for name, tc := range map[string]struct {
		parse   func([]byte, []jose.SignatureAlgorithm) (*keySet, error)
		content string
		says    string
	}{
		"set, empty file":        {parseJWKS, "", "JSON object"},
		"set, list":              {parseJWKS, "[]", "JSON object"},
		"set, single key":        {parseJWKS, `{"kty":"EC"}`, `"keys"`},
		"set, keys as object":    {parseJWKS, `{"keys":{}}`, `"keys"`},
		"set, no keys":           {parseJWKS, `{"keys":[]}`, "no key to verify with"},
		"set, doubled keys":      {parseJWKS, `{"keys":[],"keys":[]}`, "column 12: keys: a duplicate key"},
		"set, keys in two cases": {parseJWKS, `{"keys":[{"kty":"EC","Kty":"EC"}]}`, "column 22: keys.kty: a duplicate key"},
		"set, null":              {parseJWKS, `{"keys":[null]}`, "key 1"},
		"set, too many":          {parseJWKS, string(jwks(t, many...)), "at most 64"},
		"PEM, empty":             {parsePEM, "\n", "empty"},
		"PEM, none":              {parsePEM, "key", "not PEM"},
		"PEM, something behind":  {parsePEM, string(good) + "-----BEGIN", "not PEM"},
		"PEM, private":           {parsePEM, string(block("PRIVATE KEY", der)), "openssl pkey"},
		"PEM, good and private":  {parsePEM, string(good) + string(block("EC PRIVATE KEY", der)), "key 2"},
		"PEM, certificate":       {parsePEM, string(block("CERTIFICATE", der)), "openssl x509"},
		"PEM, parameters":        {parsePEM, string(block("EC PARAMETERS", der)), "not a public key"},
		"PEM, broken":            {parsePEM, string(block("PUBLIC KEY", der)), "not a valid public key"},
		"PEM, too many":          {parsePEM, strings.Repeat(string(good), maxTries+1), "at most 16"},
		"secret, empty":          {parseSecret, "", "0 bytes"},
		"secret, short":          {parseSecret, strings.Repeat("x", 31), "31 bytes"},
		"secret, short with LF":  {parseSecret, strings.Repeat("x", 31) + "\n", "31 bytes"},
		"secret, bad base64":     {parseSecret, "base64:" + strings.Repeat("x", 45), "base64"},
		"secret, a key in PEM":   {parseSecret, string(good), "PEM"},
		"secret, a private one ": {parseSecret, string(block("PRIVATE KEY", der)), "PEM"},
	} {
		all := make([]jose.SignatureAlgorithm, 0, len(signers()))
		for alg := range signers() {
			all = append(all, alg)
		}
		if _, err := tc.parse([]byte(tc.content), all); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want something with %q", name, err, tc.says)
		}
	}
}
