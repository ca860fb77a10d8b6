package tokenjwt

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

func TestGrant(t *testing.T) {
	o := strict(Keys{})
	o.Subject, o.ClientID, o.Username, o.ACL = "device.name", "/https:~1~1example.com~1clients", "login", "mqtt.acl"
	o.Limits, o.Gateway = "mqtt.limits", "mqtt.gateway"
	o.Attrs = map[string]string{"site": "device.site", "floor": "device.floor", "spare": "device.spare", "none": "device.none"}
	s := loaded(t, o, always(named(t, "k1", keyring().p256.Public())))
	now := time.Now().Unix()
	r := request(signed(t, jose.ES256, keyring().p256, "k1", claims(map[string]any{
		"exp": now + 100, "nbf": now - 50,
		"device":                      map[string]any{"name": "pump-7", "site": "north", "floor": 2, "spare": true},
		"https://example.com/clients": []string{"c1", "c2"},
		"login":                       "u",
		"mqtt": map[string]any{"acl": []any{map[string]any{"permission": "allow", "action": "publish", "topics": []string{"<a>/#"}, "qos": []int{0}}},
			"limits": map[string]any{"publish_rate": 5, "max_packet": 1024}, "gateway": true},
	})))
	r.ClientID, r.Username = "c2", "u"
	got, err := s.Authorize(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	acl, err := authz.NewACL(authz.DenyRest, authz.Rule{Publish: true, Topics: []string{"<a>/#"}, QoS: []int{0}})
	if err != nil {
		t.Fatal(err)
	}
	want := &authz.Grant{
		TokenID: "pump-7-a", Subject: "pump-7", Expires: time.Unix(now+100, 0), ACL: acl,
		Limits: authz.Limits{PublishRate: 5, MaxPacket: 1024}, Gateway: true,
		Only:  authz.Conditions{ClientIDs: []string{"c1", "c2"}, Usernames: []string{"u"}, NotBefore: time.Unix(now-80, 0)},
		Attrs: map[string]string{"site": "north", "floor": "2", "spare": "true"},
		Keep:  authz.Keep{TTL: -1, Stale: -1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for reason, change := range map[authz.Reason]func(*authz.Request){
		authz.WrongClientID: func(r *authz.Request) { r.ClientID = "c3" },
		authz.WrongUsername: func(r *authz.Request) { r.Username = "" },
	} {
		other := r
		change(&other)
		if got := outcome(t, s, other); got != string(reason) {
			t.Errorf("%s, want %s", got, reason)
		}
	}
}

func TestClaims(t *testing.T) {
	now := time.Now().Unix()
	withMapped := func(o *Options) {
		o.ClientID, o.Username, o.ACL, o.Limits, o.Role, o.Gateway, o.Attrs = "clientid", "username", "acl", "limits", "role", "gateway", map[string]string{"a": "a"}
	}
	for _, tc := range []struct {
		name    string
		options func(*Options)
		claims  map[string]any
		want    string
	}{
		{name: "good", want: "granted"},
		{name: "no exp", claims: map[string]any{"exp": nil}, want: "not_authorized"},
		{name: "no exp, allowed", options: func(o *Options) { o.AllowNoExpiry = true }, claims: map[string]any{"exp": nil}, want: "granted"},
		{name: "exp as text", claims: map[string]any{"exp": "2100"}, want: "not_authorized"},
		{name: "exp null counts as there", options: func(o *Options) { o.AllowNoExpiry = true }, claims: map[string]any{"exp": (*int)(nil)}, want: "not_authorized"},
		{name: "exp in milliseconds", claims: map[string]any{"exp": (now + 100) * 1000}, want: "not_authorized"},
		{name: "exp negative", claims: map[string]any{"exp": -1}, want: "not_authorized"},
		{name: "exp huge", claims: map[string]any{"exp": math.MaxFloat64}, want: "not_authorized"},
		{name: "exp with a fraction", claims: map[string]any{"exp": float64(now) + 100.5}, want: "granted"},
		{name: "expired within the leeway", claims: map[string]any{"exp": now - 1}, want: "expired"},
		{name: "expired beats a missing claim", options: withMapped, claims: map[string]any{"exp": now - 1}, want: "expired"},
		{name: "nbf within the leeway", claims: map[string]any{"nbf": now + 20}, want: "granted"},
		{name: "nbf beyond the leeway", claims: map[string]any{"nbf": now + 60}, want: "not_yet_valid"},
		{name: "nbf without leeway", options: func(o *Options) { o.Leeway = -1 }, claims: map[string]any{"nbf": now + 20}, want: "not_yet_valid"},
		{name: "iat beyond the leeway", claims: map[string]any{"iat": now + 60}, want: "not_yet_valid"},
		{name: "iat as list", claims: map[string]any{"iat": []int{1}}, want: "not_authorized"},
		{name: "foreign iss", claims: map[string]any{"iss": "https://evil.example/"}, want: "unknown_token"},
		{name: "iss with a slash less", claims: map[string]any{"iss": "https://id.example"}, want: "unknown_token"},
		{name: "no iss", claims: map[string]any{"iss": nil}, want: "unknown_token"},
		{name: "iss as list", claims: map[string]any{"iss": []string{"https://id.example/"}}, want: "unknown_token"},
		{name: "any iss", options: func(o *Options) { o.Issuers = nil }, claims: map[string]any{"iss": "x"}, want: "granted"},
		{name: "foreign aud", claims: map[string]any{"aud": "x"}, want: "not_authorized"},
		{name: "aud one of several", claims: map[string]any{"aud": []string{"x", "other"}}, want: "granted"},
		{name: "aud empty list", claims: map[string]any{"aud": []string{}}, want: "not_authorized"},
		{name: "aud with a number", claims: map[string]any{"aud": []any{"mqtt", 1}}, want: "not_authorized"},
		{name: "no aud", claims: map[string]any{"aud": nil}, want: "not_authorized"},
		{name: "aud, none configured", options: func(o *Options) { o.Audiences = nil }, want: "not_authorized"},
		{name: "no aud, none configured", options: func(o *Options) { o.Audiences = nil }, claims: map[string]any{"aud": nil}, want: "granted"},
		{name: "aud, any accepted", options: func(o *Options) { o.Audiences, o.AnyAudience = nil, true }, want: "granted"},
		{name: "bound to a key", claims: map[string]any{"cnf": map[string]any{"jkt": "x"}}, want: "not_authorized"},
		{name: "no sub", claims: map[string]any{"sub": nil}, want: "not_authorized"},
		{name: "sub empty", claims: map[string]any{"sub": ""}, want: "not_authorized"},
		{name: "sub too long", claims: map[string]any{"sub": strings.Repeat("x", 257)}, want: "not_authorized"},
		{name: "sub with a line end", claims: map[string]any{"sub": "a\nb"}, want: "not_authorized"},
		{name: "sub as number", claims: map[string]any{"sub": 7}, want: "granted"},
		{name: "sub as a fraction", claims: map[string]any{"sub": 7.5}, want: "not_authorized"},
		{name: "sub as boolean", claims: map[string]any{"sub": true}, want: "not_authorized"},
		{name: "sub in another case", claims: map[string]any{"sub": nil, "SUB": "pump-7"}, want: "not_authorized"},
		{name: "sub through a text", options: func(o *Options) { o.Subject = "sub.name" }, want: "not_authorized"},
		{name: "jti too long", claims: map[string]any{"jti": strings.Repeat("x", 129)}, want: "not_authorized"},
		{name: "jti as number", claims: map[string]any{"jti": 5}, want: "granted"},
		{name: "no jti", claims: map[string]any{"jti": nil}, want: "granted"},
		{name: "mapped", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u"}, want: "granted"},
		{name: "no client id claim", options: withMapped, claims: map[string]any{"username": "u"}, want: "not_authorized"},
		{name: "client id claim as empty list", options: withMapped, claims: map[string]any{"clientid": []string{}, "username": "u"}, want: "not_authorized"},
		{name: "client id claim as pattern", options: withMapped, claims: map[string]any{"clientid": []string{"c", "*"}, "username": "u"}, want: "not_authorized"},
		{name: "client id claim with an empty text", options: withMapped, claims: map[string]any{"clientid": []string{"c", ""}, "username": "u"}, want: "not_authorized"},
		{name: "client id claim as another number", options: withMapped, claims: map[string]any{"clientid": 1, "username": "u"}, want: "wrong_client_id"},
		{name: "client id claim as boolean", options: withMapped, claims: map[string]any{"clientid": true, "username": "u"}, want: "not_authorized"},
		{name: "user name claim as pattern", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u*"}, want: "not_authorized"},
		{name: "acl empty", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "acl": []any{}}, want: "granted"},
		{name: "limits", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "limits": map[string]any{"retain": false}}, want: "granted"},
		{name: "limits of an unknown name", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "limits": map[string]any{"rate": 1}}, want: "not_authorized"},
		{name: "role", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "role": "reader"}, want: "granted"},
		{name: "unknown role", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "role": "admin"}, want: "not_authorized"},
		{name: "role as list", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "role": []string{"reader"}}, want: "not_authorized"},
		{name: "gateway", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "gateway": false}, want: "granted"},
		{name: "gateway as text", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "gateway": "true"}, want: "not_authorized"},
		{name: "limits as text", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "limits": "none"}, want: "not_authorized"},
		{name: "acl as text", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "acl": "a/#"}, want: "not_authorized"},
		{name: "acl null", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "acl": (*int)(nil)}, want: "not_authorized"},
		{name: "acl with an unknown condition", options: withMapped, want: "not_authorized", claims: map[string]any{
			"clientid": "c", "username": "u",
			"acl": []any{map[string]any{"permission": "allow", "action": "all", "topic": "#", "ipaddr": "10.0.0.1"}},
		}},
		{name: "acl with a long bad topic", options: withMapped, want: "not_authorized", claims: map[string]any{
			"clientid": "c", "username": "u",
			"acl": []any{map[string]any{"permission": "allow", "action": "all", "topic": "#" + strings.Repeat("\u00e9", 500)}},
		}},
		{name: "attribute as list", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "a": []string{"x"}}, want: "not_authorized"},
		{name: "attribute with NUL", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "a": "\x00"}, want: "not_authorized"},
		{name: "attribute empty", options: withMapped, claims: map[string]any{"clientid": "c", "username": "u", "a": ""}, want: "granted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := strict(Keys{})
			if tc.options != nil {
				tc.options(&o)
			}
			s := loaded(t, o, always(named(t, "k1", keyring().p256.Public())))
			r := request(signed(t, jose.ES256, keyring().p256, "k1", claims(tc.claims)))
			r.ClientID, r.Username = "c", "u"
			if got := outcome(t, s, r); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// TestForm signs texts that are not tokens with a valid key.
func TestForm(t *testing.T) {
	k := keyring()
	type header = map[jose.HeaderKey]any
	good := claims(nil)
	s := loaded(t, strict(Keys{}), always(named(t, "k1", k.p256.Public())))
	valid := signed(t, jose.ES256, k.p256, "k1", good)
	parts := strings.Split(valid, ".")
	with := func(more header) string {
		h := header{"kid": "k1"}
		maps.Copy(h, more)
		return signedWith(t, jose.ES256, k.p256, h, good)
	}
	payload := func(text string) string { return signed(t, jose.ES256, k.p256, "k1", text) }
	for name, tc := range map[string]struct{ token, want string }{
		"valid":                   {valid, "granted"},
		"typ JWT":                 {with(header{"typ": "jwt"}), "granted"},
		"typ at+jwt":              {with(header{"typ": "application/AT+JWT"}), "granted"},
		"typ of something else":   {with(header{"typ": "logout+jwt"}), "not_authorized"},
		"jku":                     {with(header{"jku": "https://evil.example/"}), "granted"}, // never followed
		"own key":                 {with(header{"jwk": jwk(t, k.p256.Public(), nil)}), "unknown_token"},
		"b64":                     {with(header{"b64": true}), "unknown_token"},
		"zip":                     {with(header{"zip": "DEF"}), "unknown_token"},
		"kid as number":           {with(header{"kid": 1}), "unknown_token"},
		"empty":                   {"", "unknown_token"},
		"dots":                    {"..", "unknown_token"},
		"opaque":                  {"an-opaque-token", "unknown_token"},
		"two parts":               {parts[0] + "." + parts[1], "unknown_token"},
		"no signature":            {parts[0] + "." + parts[1] + ".", "unknown_token"},
		"four parts":              {valid + ".AAAA", "unknown_token"},
		"padding":                 {valid + "==", "unknown_token"},
		"a line end":              {parts[0] + "." + parts[1] + "\n." + parts[2], "unknown_token"},
		"JSON serialization":      {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, "unknown_token"},
		"claims as list":          {payload(`[]`), "unknown_token"},
		"claims with two subs":    {payload(`{"iss":"https://id.example/","sub":"a","sub":"b"}`), "unknown_token"},
		"claims doubled deeper":   {payload(`{"iss":"https://id.example/","x":[{"a":1,"a":1}]}`), "unknown_token"},
		"claims doubled by \\u":   {payload(`{"iss":"https://id.example/","sub":"a","\u0073ub":"b"}`), "unknown_token"},
		"claims and more":         {payload(`{"iss":"https://id.example/"}{}`), "unknown_token"},
		"claims nested too deep":  {payload(`{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`), "unknown_token"},
		"claims not UTF-8":        {payload("{\"iss\":\"https://id.example/\",\"sub\":\"\xff\"}"), "unknown_token"},
		"larger than the largest": {signed(t, jose.ES256, k.p256, "k1", claims(map[string]any{"x": strings.Repeat("x", 16<<10)})), "unknown_token"},
	} {
		if got := outcome(t, s, request(tc.token)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestNamesMayBeNumbers: some issuers name devices and tokens by the numbers of a database.
func TestNamesMayBeNumbers(t *testing.T) {
	o := strict(Keys{})
	o.ClientID = "clients"
	s := loaded(t, o, always(named(t, "k1", keyring().p256.Public())))
	r := request(signed(t, jose.ES256, keyring().p256, "k1", claims(map[string]any{"sub": 1234567890123456789, "jti": 5, "clients": []any{"c", 42}})))
	r.ClientID = "42"
	g, err := s.Authorize(t.Context(), r)
	if err != nil || g.Subject != "1234567890123456789" || g.TokenID != "5" {
		t.Errorf("the grant is %+v: %v", g, err)
	}
}

// TestEd25519HasTwoNames: an issuer may use either name, in tokens and in keys.
func TestEd25519HasTwoNames(t *testing.T) {
	k := keyring()
	token := func(alg string) string {
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + alg + `","kid":"k1"}`))
		payload, err := json.Marshal(claims(nil))
		if err != nil {
			t.Fatal(err)
		}
		input := header + "." + base64.RawURLEncoding.EncodeToString(payload)
		return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.ed, []byte(input)))
	}
	for _, alg := range []string{"EdDSA", "Ed25519"} {
		for _, member := range []map[string]any{{"kid": "k1"}, {"kid": "k1", "alg": "EdDSA"}, {"kid": "k1", "alg": "Ed25519"}} {
			s := loaded(t, strict(Keys{}), always(jwks(t, jwk(t, k.ed.Public(), member))))
			if got := outcome(t, s, request(token(alg))); got != "granted" {
				t.Errorf("a token with alg %s for key %v is %s", alg, member, got)
			}
			forged := []byte(token(alg))
			forged[len(forged)-5] ^= 1
			if got := outcome(t, s, request(string(forged))); got == "granted" {
				t.Errorf("a forged token with alg %s is %s", alg, got)
			}
		}
	}
	o := strict(Keys{})
	o.Algorithms = []string{"Ed25519"}
	s := loaded(t, o, always(named(t, "k1", k.ed.Public())))
	if first, second := outcome(t, s, request(token("Ed25519"))), outcome(t, s, request(token("EdDSA"))); first != "granted" || second != "unknown_token" {
		t.Errorf("with algorithms: [Ed25519] the tokens are %s and %s", first, second)
	}
}

// TestDenialReasons: each refusal has its own text in the log, and none of them contains more
// of the token than its public parts.
func TestDenialReasons(t *testing.T) {
	k := keyring()
	s := loaded(t, strict(Keys{}), always(jwks(t, jwk(t, k.p256.Public(), map[string]any{"kid": "k1"}), jwk(t, k.rsa.Public(), map[string]any{"kid": "r1"}))))
	long := strings.Repeat("k", 500)
	for want, token := range map[string]string{
		"not a signed JWT":                             "opaque-secret",
		"not a JWT of at most 16384 bytes":             strings.Repeat("x", 20000),
		`a JWT with "zip" in its header`:               signedWith(t, jose.ES256, k.p256, map[jose.HeaderKey]any{"zip": "DEF"}, claims(nil)),
		`a JWT with algorithm "HS256", which is not`:   signed(t, jose.HS256, k.secret, "k1", claims(nil)),
		"a JWT whose claims are not a JSON object":     signed(t, jose.ES256, k.p256, "k1", "[]"),
		`a JWT of issuer "https://evil.example/"`:      signed(t, jose.ES256, k.p256, "k1", claims(map[string]any{"iss": "https://evil.example/"})),
		"a JWT that names no issuer":                   signed(t, jose.ES256, k.p256, "k1", claims(map[string]any{"iss": nil})),
		`does not match key "k1", which it names`:      signed(t, jose.ES256, k.other, "k1", claims(nil)),
		`names key "r1", which is not for algorithm "`: signed(t, jose.ES256, k.p256, "r1", claims(nil)),
		"a JWT whose signature matches no key":         signed(t, jose.ES256, k.other, "", claims(nil)),
		`which did not exist when the keys were last`:  signed(t, jose.ES256, k.other, "k2", claims(nil)),
		`"` + long[:64] + `"...`:                       signed(t, jose.ES256, k.other, long, claims(nil)),
	} {
		_, err := s.Authorize(t.Context(), request(token))
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
		for part := range strings.SplitSeq(token, ".") {
			if err != nil && strings.Contains(err.Error(), part) {
				t.Errorf("the error repeats the token: %v", err)
			}
		}
	}
}

// TestHeaderIsStrict checks headers that no library would write.
func TestHeaderIsStrict(t *testing.T) {
	for text, want := range map[string]bool{
		`{"alg":"ES256"}`:                        true,
		`{"alg":"ES256","x5c":["?"]}`:            true,
		`{"alg":"ES256","alg":"none"}`:           false,
		`{"ALG":"ES256"}`:                        false,
		`{"alg":"ES256","Alg":"ES256"}`:          false,
		`{"alg":"ES256","x":"\ud800\u0000"}`:     true,
		`{"alg":"ES256","kid":"\ud800"}`:         false,
		`{"alg":"none"}`:                         false,
		`{"alg":"es256"}`:                        false,
		`{"alg":["ES256"]}`:                      false,
		`{"alg":"ES256","crit":["exp"]}`:         false,
		`{"alg":"ES256","crit":[]}`:              false,
		`{"alg":"ES256","enc":"A128GCM"}`:        false,
		`{"alg":"ES256","kid":null}`:             false,
		`{"alg":"ES256","typ":1}`:                false,
		`{}`:                                     false,
		`null`:                                   false,
		`{"alg":"ES256"} {}`:                     false,
		strings.Repeat(`{"a":`, 20) + `1`:        false,
		`{"alg":"ES256","x":` + nested(15) + `}`: true,
		`{"alg":"ES256","x":` + nested(16) + `}`: false,
	} {
		var tok token
		if err := tok.readHeader([]byte(text), []jose.SignatureAlgorithm{jose.ES256}); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestCanonical tries every last character: only the canonical encoding is accepted, so that a
// token has one text.
func TestCanonical(t *testing.T) {
	for _, head := range []string{"", "A", "AA", "AAA"} {
		for c := range 256 {
			text := head + string([]byte{byte(c)})
			decoded, err := base64.RawURLEncoding.DecodeString(text)
			want := err == nil && base64.RawURLEncoding.EncodeToString(decoded) == text
			if got := canonical(text); got != want {
				t.Errorf("%q: %v, want %v", text, got, want)
			}
		}
	}
	if canonical("") {
		t.Error("nothing is accepted")
	}
}

func TestRuleFault(t *testing.T) {
	for raw, want := range map[string]string{
		`[{"permission":"allow","action":"all","topic":"a"},{"permission":"allow"}]`: "rule 2 is not valid",
		`{"s3cr3t":[]}`: "no valid topic rules",
	} {
		_, err := authz.ParseACL([]byte(raw), authz.ACLOptions{})
		if got := ruleFault(err).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// TestIDOutlivesSignature: if the holder signs again in another way, or changes the signature,
// the token keeps its id.
func TestIDOutlivesSignature(t *testing.T) {
	k := keyring()
	s := loaded(t, strict(Keys{}), always(named(t, "k1", k.p256.Public())))
	c := claims(map[string]any{"jti": nil})
	ids := map[string]bool{}
	for range 2 { // ES256 is randomized
		g, err := s.Authorize(t.Context(), request(signed(t, jose.ES256, k.p256, "k1", c)))
		if err != nil {
			t.Fatal(err)
		}
		ids[g.TokenID] = true
	}
	g, err := s.Authorize(t.Context(), request(signed(t, jose.ES256, k.p256, "k1", claims(map[string]any{"jti": nil, "sub": "b"}))))
	if err != nil || len(ids) != 1 || ids[g.TokenID] || !strings.HasPrefix(g.TokenID, "jwt-") {
		t.Errorf("ids %v, of another token %v: %v", ids, g, err)
	}
}

func TestPath(t *testing.T) {
	object, err := strictjson.Parse([]byte(`{"a": {"b": "1", "c.d": "2", "e/f": "3", "~": "4"}, "l": ["x"], "": "5"}`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]any{
		"a.b": "1", "/a/b": "1", "/a/c.d": "2", "/a/e~1f": "3", "/a/~0": "4", "/": "5", "a.c.d": nil, "l.0": nil, "/l/0": nil, "x": nil, "a.b.c": nil,
	} {
		p, err := parsePath(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got, ok := p.in(object); got.Value != want || ok != (want != nil) {
			t.Errorf("%s leads to %v", text, got)
		}
	}
	for _, text := range []string{".", "a.", ".a", "a..b", "/~", "/~2", "/a~"} {
		if _, err := parsePath(text); err == nil {
			t.Errorf("%q is a path", text)
		}
	}
	if got, ok := path(nil).in(object); ok {
		t.Errorf("nil leads to %v", got)
	}
}
