package tokenhttp

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/freshness"
)

// TestStrictAnswers: an answer that only a lenient parser would read as "allow" does not allow.
func TestStrictAnswers(t *testing.T) {
	for _, body := range []string{
		`{"result":"deny","RESULT":"allow"}`, `{"RESULT":"allow","result":"allow"}`,
		`{"result":"allow","result":"allow"}`, `{"Result":"allow"}`, `{"re\u0073ult":"allow","result":"deny"}`,
		`{"result":"allow","re` + "\u017f" + `ult":"deny"}`,
		`{"result":"allow"} {}`, `{"result":"allow"}x`, `[{"result":"allow"}]`, `"allow"`, `null`,
		`{"result":true}`, `{"result":["allow"]}`, `{"result":"Allow"}`, `{"result":"allow ","x":1}`,
		`{"result":"allow",}`, `{'result':'allow'}`, "\ufeff" + `{"result":"allow"}`, `{"result":"allow","x":"` + "\xff" + `"}`,
		`{"result":"allow","subject":"\ud800"}`,
		`{"result":"allow","a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		`{"result":"allow","expire_at":"4000000000"}`,
		`{"result":"allow","expire_at":4000000000000}`, `{"result":"allow","expire_at":null}`, `{"result":"allow","Expire_At":4000000000}`,
		`{"result":"allow","expires_in":99999999999999999999}`, `{"result":"allow","expires_in":true}`,
		`{"result":"allow","cache_ttl":-1}`, `{"result":"allow","stale_if_error":"1"}`,
		`{"result":"allow","revalidate_after":29}`, `{"result":"allow","max_session":0}`,
		`{"result":"allow","subject":7.5}`, `{"result":"allow","subject":1e3}`, `{"result":"allow","subject":true}`, `{"result":"allow","token_id":"` + strings.Repeat("x", 129) + `"}`,
		`{"result":"allow","clientid":[]}`, `{"result":"allow","clientid":{}}`, `{"result":"allow","clientid":["a",true]}`, `{"result":"allow","clientid":1.5}`, `{"result":"allow","ClientID":"a"}`,
		`{"result":"allow","username":null}`,
		`{"result":"allow","upstream":"x"}`, `{"result":"allow","upstream":{"user":"x"}}`, `{"result":"allow","upstream":{"Username":"x"}}`,
		`{"result":"allow","upstream":{"password":1}}`, `{"result":"allow","upstream":{"pool":"b"}}`,
		`{"result":"allow","client_attrs":{"a":[1]}}`, `{"result":"allow","client_attrs":[]}`,
		`{"result":"allow","acl":null}`, `{"result":"allow","acl":"#"}`, `{"result":"allow","acl":[{"permission":"allow"}]}`,
		`{"result":"allow","acl":[{"permission":"deny","action":"all","topics":["#"],"when":"night"}]}`,
		`{"result":"allow","ACL":[]}`, `{"result":"allow","acl_no_match":"allow"}`,
		`{"result":"allow","is_superuser":"true"}`, `{"result":"allow","is_superuser":2}`, `{"result":"allow","gateway":"true"}`,
		`{"result":"allow","role":"admin"}`, `{"result":"allow","role":"Reader"}`, `{"result":"allow","role":true}`, `{"result":"allow","role":["reader"]}`,
		`{"result":"allow","limits":{"max_sessions":1}}`, `{"result":"allow","limits":[]}`, `{"result":"allow","limits":null}`,
		`{"result":"allow","limits":{"publish_rate":"5"}}`, `{"result":"allow","limits":{"publish_rate":5.5}}`, `{"result":"allow","Limits":{}}`,
	} {
		g, err := asked(t, okJSON(body), Options{}, pump())
		if got := outcomeOf(g, err); got != "error" {
			t.Errorf("%s is %s: %v", body, got, err)
		}
		if err != nil && strings.Contains(err.Error(), secretToken) {
			t.Errorf("the error for %s repeats the token", strings.ReplaceAll(body, secretToken, "..."))
		}
	}
}

// TestUnusedTextsMayBeDamaged: NUL and half of a surrogate pair matter only in values that are
// used. A password may contain NUL.
func TestUnusedTextsMayBeDamaged(t *testing.T) {
	for body, want := range map[string]string{
		`{"result":"allow","note":"a\ud800b\u0000"}`:                                         "allow",
		`{"result":"allow","upstream":{"password":"a\u0000b"}}`:                              "allow",
		`{"result":"allow","upstream":{"password":"a\ud800"}}`:                               "error",
		`{"result":"allow","upstream":{"username":"a\u0000b"}}`:                              "error",
		`{"result":"allow","clientid":["a\ud800"]}`:                                          "error",
		`{"result":"allow","client_attrs":{"a":"\ud800"}}`:                                   "error",
		`{"result":"allow","subject":"a` + "\ufffd" + `"}`:                                   "error",
		`{"result":"allow","note":{"site":"a","Site":"b"}}`:                                  "error",
		`{"result":"allow","acl":[{"permission":"allow","action":"all","topic":"a\ud800"}]}`: "error",
	} {
		g, err := asked(t, okJSON(body), Options{}, pump())
		if got := outcomeOf(g, err); got != want {
			t.Errorf("%s is %s: %v", body, got, err)
		}
	}
}

func TestGrantFields(t *testing.T) {
	acl, err := authz.ParseACL([]byte(`[{"permission":"allow","action":"publish","topics":["v1/${clientid}/#"]}]`), authz.ACLOptions{Rest: authz.DeferRest})
	if err != nil {
		t.Fatal(err)
	}
	nothing, _ := authz.NewACL(authz.DenyRest)
	everything, _ := authz.NewACL(authz.DeferRest)
	for name, c := range map[string]struct {
		body   string
		header http.Header
		want   authz.Grant
	}{
		"all": {body: `{"result":"allow","reason":"ok","subject":"s","token_id":"t","expire_at":4000000000,
			"cache_ttl":30,"stale_if_error":60,"revalidate_after":90,"clientid":["pump-*","x"],"username":"pump",
			"upstream":{"username":"bu","password":"bp","clientid":"bc"},"client_attrs":{"site":"north"},"vary":[],
			"acl_no_match":"defer","acl":[{"permission":"allow","action":"publish","topics":["v1/${clientid}/#"]}],
			"is_superuser":false,"role":"reader","gateway":true,"limits":{"max_packet":1024,"publish_rate":5,"sessions":2},"unheard_of":{"x":[1,2.5,null]}}`,
			header: http.Header{"Cache-Control": {"no-store"}},
			want: authz.Grant{
				TokenID: "t", Subject: "s", ACL: acl, Role: authz.RoleReader, Gateway: true, Expires: time.Unix(4000000000, 0), Recheck: 90 * time.Second,
				Limits:   authz.Limits{MaxPacket: 1024, PublishRate: 5, Sessions: 2},
				Keep:     authz.Keep{TTL: 30 * time.Second, Stale: time.Minute, Narrow: true},
				Only:     authz.Conditions{ClientIDs: []string{"pump-*", "x"}, Usernames: []string{"pump"}},
				Upstream: authz.Upstream{Username: "bu", Password: authz.NewToken("bp"), ClientID: "bc"},
				Attrs:    map[string]string{"site": "north"},
			}},
		"nothing allowed": {body: `{"result":"allow","token_id":"t","acl":[]}`, want: authz.Grant{TokenID: "t", Subject: "t", ACL: nothing}},
		"superuser":       {body: `{"result":"allow","token_id":"t","acl":[],"is_superuser":true}`, want: authz.Grant{TokenID: "t", Subject: "t", ACL: everything, Superuser: true}},
		"headers": {body: `{"result":"allow","token_id":"t"}`, header: http.Header{"Cache-Control": {"private, max-age=60"}, "Age": {"20"}},
			want: authz.Grant{TokenID: "t", Subject: "t", Keep: authz.Keep{TTL: 40 * time.Second}}},
		"no reuse": {body: `{"result":"allow","token_id":"t","cache_ttl":0,"stale_if_error":9}`,
			want: authz.Grant{TokenID: "t", Subject: "t", Keep: notAtAll()}},
		"no stale": {body: `{"result":"allow","token_id":"t","stale_if_error":0}`,
			want: authz.Grant{TokenID: "t", Subject: "t", Keep: authz.Keep{Stale: -1}}},
		"numbers": {body: `{"result":"allow","subject":1234567890123456789,"token_id":7,"clientid":[1,"a"],"expire_at":4000000000.5,"is_superuser":1,
			"cache_ttl":1.5,"stale_if_error":1e1,"not_before":1.7e9,"revalidate_after":30.5,"client_attrs":{"a":1,"b":2.50,"c":true},"upstream":{"username":5}}`,
			want: authz.Grant{TokenID: "7", Subject: "1234567890123456789", ACL: everything, Superuser: true,
				Only: authz.Conditions{ClientIDs: []string{"1", "a"}}, Upstream: authz.Upstream{Username: "5"},
				Expires: time.Unix(4000000000, 5e8), Recheck: 30500 * time.Millisecond,
				Keep:  authz.Keep{TTL: 1500 * time.Millisecond, Stale: 10 * time.Second},
				Attrs: map[string]string{"a": "1", "b": "2.50", "c": "true"}}},
		"an early end": {body: `{"result":"allow","token_id":"t","expire_at":3900000000,"expires_in":99999999999}`,
			want: authz.Grant{TokenID: "t", Subject: "t", Expires: time.Unix(3900000000, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			a := okJSON(c.body)
			a.header = c.header
			g, err := asked(t, a, Options{}, pump())
			if err != nil {
				t.Fatal(err)
			}
			tokens := cmp.Comparer(func(a, b authz.Token) bool { return a.Equal(b) })
			if diff := cmp.Diff(c.want, *g, tokens); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMaxSessionEndsTheGrant(t *testing.T) {
	before := time.Now()
	g, err := asked(t, okJSON(`{"result":"allow","max_session":3600,"expires_in":7200}`), Options{}, pump())
	if err != nil {
		t.Fatal(err)
	}
	if end := g.Expires; end.Before(before.Add(time.Hour)) || end.After(time.Now().Add(time.Hour)) {
		t.Errorf("the grant ends %v after the question, want an hour", end.Sub(before))
	}
}

// TestNamesComeFromTheCredential: if the service does not name the device, its name does not
// depend on anything that the device may choose freely.
func TestNamesComeFromTheCredential(t *testing.T) {
	allow := okJSON(`{"result":"allow"}`)
	jwt := Options{Preset: "goauth", Headers: map[string]string{"Authorization": "Bearer ${token}"}}
	for name, c := range map[string]struct {
		o       Options
		a       reply
		subject string // empty: the token id
		pair    bool   // the token id depends on the user name
	}{
		"native":                   {a: allow},
		"native, own body":         {o: Options{Body: `{"u":"${username}","p":"${password}"}`}, a: allow},
		"status":                   {o: Options{Preset: "status", URL: "/${token}"}, a: reply{status: 200}},
		"introspection":            {o: Options{Preset: "introspection"}, a: okJSON(`{"active":true}`)},
		"a name that binds":        {a: okJSON(`{"result":"allow","username":"pump"}`), subject: "pump"},
		"names of which one binds": {a: okJSON(`{"result":"allow","username":["pump","boiler"]}`)},
		"names of any ending":      {a: okJSON(`{"result":"allow","username":"pump*"}`)},
		"emqx":                     {o: Options{Preset: "emqx"}, a: allow, subject: "pump", pair: true},
		"emqx by GET":              {o: Options{Preset: "emqx", Method: "GET"}, a: allow, subject: "pump", pair: true},
		"emqx, token alone":        {o: Options{Preset: "emqx", Body: `{"username":"${token}"}`}, a: allow},
		"emqx4":                    {o: Options{Preset: "emqx4"}, a: reply{status: 200}, subject: "pump", pair: true},
		"goauth":                   {o: Options{Preset: "goauth"}, a: okJSON(`{"ok":true}`), subject: "pump", pair: true},
		"goauth with a JWT":        {o: jwt, a: okJSON(`{"ok":true}`)},
		"vernemq":                  {o: Options{Preset: "vernemq"}, a: okJSON(`{"result":"ok"}`), subject: "pump", pair: true},
		"rabbitmq":                 {o: Options{Preset: "rabbitmq"}, a: reply{status: 200, body: "allow"}, subject: "pump", pair: true},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := asked(t, c.a, c.o, pump())
			if err != nil {
				t.Fatal(err)
			}
			want := c.subject
			if want == "" {
				want = g.TokenID
			}
			if g.Subject != want {
				t.Errorf("the subject is %q, want %q", g.Subject, want)
			}
			other := pump()
			other.Username = "boiler"
			second, err := asked(t, c.a, c.o, other)
			if err != nil {
				t.Fatal(err)
			}
			if (second.TokenID != g.TokenID) != c.pair {
				t.Errorf("with another user name the token id is %s, before it was %s", second.TokenID, g.TokenID)
			}
		})
	}
}

// TestNarrowAnswersKeepTheirSubject: an answer that depends only on the token is not used for
// another user name if its subject came from the user name.
func TestNarrowAnswersKeepTheirSubject(t *testing.T) {
	for preset, want := range map[string]authz.Parts{"native": 0, "emqx": authz.PartUsername} {
		g, err := asked(t, okJSON(`{"result":"allow","vary":[]}`), Options{Preset: preset, Fields: map[string]string{"vary": "vary"}}, pump())
		if err != nil || !g.Keep.Narrow || g.Keep.Vary != want {
			t.Errorf("%s: the grant is %+v (%v), want it to vary by %b", preset, g, err, want)
		}
	}
}

// TestNamesAreNotTheToken: a device whose token is its name is accepted, and nothing that is
// logged contains the token.
func TestNamesAreNotTheToken(t *testing.T) {
	same := pump()
	same.Username = secretToken
	for body, preset := range map[string]string{
		`{"result":"allow"}`: "emqx",
		`{"result":"allow","subject":"x` + secretToken + `"}`: "native",
		`{"result":"allow","token_id":"` + secretToken + `"}`: "native",
		`{"result":"allow","username":"` + secretToken + `"}`: "native",
	} {
		g, err := asked(t, okJSON(body), Options{Preset: preset}, same)
		if err != nil || contains(g.Subject+" "+g.TokenID, same.Token) || g.Subject == "" || g.TokenID == "" {
			t.Errorf("%s: a grant without the token in its names, want one; the error is %v", strings.ReplaceAll(body, secretToken, "..."), err)
		}
	}
}

// TestDeviceAnswersForItsOwnNames: a value that a device chose and that cannot be a subject is
// no fault of its service.
func TestDeviceAnswersForItsOwnNames(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		preset, body, username, clientID, want string
	}{
		"user name of a pair":    {"emqx", `{"result":"allow"}`, long, "c", "deny not_authorized"},
		"client id as subject":   {"native", `{"result":"allow","subject":"` + long + `"}`, "u", long, "deny not_authorized"},
		"client id in a subject": {"native", `{"result":"allow","subject":"site/` + long + `"}`, "u", long, "deny not_authorized"},
		"user name as token id":  {"native", `{"result":"allow","token_id":"` + long + `"}`, long, "c", "deny not_authorized"},
		"the service's own":      {"native", `{"result":"allow","subject":"` + long + `"}`, "x", "xx", "error"},
	} {
		r := pump()
		r.Username, r.ClientID = c.username, c.clientID
		g, err := asked(t, okJSON(c.body), Options{Preset: c.preset}, r)
		if got := outcomeOf(g, err); got != c.want {
			t.Errorf("%s: the outcome is %s (%v), want %s", name, got, err, c.want)
		}
	}
}

func TestDenials(t *testing.T) {
	for body, want := range map[string]string{
		`{"result":"deny","reason_code":"bad_credentials"}`:                       "deny unknown_token",
		`{"result":"deny","reason_code":"not_authorized"}`:                        "deny not_authorized",
		`{"result":"deny","reason_code":"banned"}`:                                "deny disabled",
		`{"result":"deny","reason_code":"busy"}`:                                  "busy",
		`{"result":"deny","reason_code":"use_another_server"}`:                    "deny not_authorized",
		`{"result":"deny","reason_code":"of next year"}`:                          "deny not_authorized",
		`{"result":"allow","expires_in":0}`:                                       "deny expired",
		`{"result":"allow","expire_at":-9223372036854775808}`:                     "deny expired",
		`{"result":"allow","expires_in":-9223372036854775808}`:                    "deny expired",
		`{"result":"deny","reason":{"not":"a string"},"expire_at":1}`:             "deny not_authorized",
		`{"result":"allow","not_before":4000000000}`:                              "deny not_yet_valid",
		`{"result":"allow","not_before":4000000000,"expire_at":1,"reason":"old"}`: "deny expired",
	} {
		g, err := asked(t, okJSON(body), Options{}, pump())
		if got := outcomeOf(g, err); got != want {
			t.Errorf("%s is %s (%v), want %s", body, got, err, want)
		}
	}
	_, err := asked(t, okJSON(`{"result":"deny","reason":"out of\r\nfunds","cache_ttl":7}`), Options{}, pump())
	d, ok := errors.AsType[*authz.Denial](err)
	if !ok || d.Detail != "out of  funds" || d.Keep.TTL != 7*time.Second {
		t.Errorf("the denial is %#v", d)
	}
	soon := time.Now().Add(20 * time.Second).Unix()
	_, err = asked(t, okJSON(fmt.Sprintf(`{"result":"allow","not_before":%d}`, soon)), Options{}, pump())
	if d, ok := errors.AsType[*authz.Denial](err); !ok || d.Keep.TTL <= 0 || d.Keep.TTL > 20*time.Second {
		t.Errorf("a denial until later is kept otherwise: %#v", d)
	}
}

// TestDenialReasons: the log must have the reason that the service gave, in whatever field.
func TestDenialReasons(t *testing.T) {
	for _, c := range []struct {
		preset string
		a      reply
		want   string
	}{
		{"native", okJSON(`{"result":"deny","reason":"out of funds"}`), "out of funds"},
		{"native", okJSON(`{"result":"deny"}`), "result is deny"},
		{"native", reply{status: 403}, "the service answers 403"},
		{"native", okJSON(`{"result":"ignore"}`), "the service leaves the decision to the next source"},
		{"emqx", okJSON(`{"result":"deny"}`), "result is deny"},
		{"emqx4", reply{status: 401}, "the service answers 401"},
		{"goauth", okJSON(`{"ok":false,"error":"no such user"}`), "no such user"},
		{"goauth", okJSON(`{"ok":false}`), "ok is false"},
		{"goauth", reply{status: 200, body: "no such user"}, "no such user"},
		{"vernemq", okJSON(`{"result":{"error":"not_allowed"}}`), "not_allowed"},
		{"vernemq", okJSON(`{"result":{"error":{"code":7}}}`), "result.error"},
		{"introspection", okJSON(`{"active":false}`), "active is false"},
		{"rabbitmq", reply{status: 200, body: "deny blocked"}, "blocked"},
		{"rabbitmq", reply{status: 200, body: "deny"}, "the service answered deny"},
	} {
		_, err := asked(t, c.a, Options{Preset: c.preset}, pump())
		if d, ok := errors.AsType[*authz.Denial](err); !ok || d.Detail != c.want {
			t.Errorf("%s: the denial of %d %s is %v, want detail %q", c.preset, c.a.status, c.a.body, err, c.want)
		}
	}
}

// TestReasonsWithoutSecrets: some services repeat what they were sent.
func TestReasonsWithoutSecrets(t *testing.T) {
	for _, echo := range []string{
		secretToken, "unknown: " + secretToken[:10] + "...", "..." + secretToken[10:], "U2VjcmV0LXRva2Vu", "5365637265742d74",
	} {
		for preset, a := range map[string]reply{
			"native":   okJSON(`{"result":"deny","reason":"` + echo + `"}`),
			"goauth":   okJSON(`{"ok":false,"error":"` + echo + `"}`),
			"rabbitmq": {status: 200, contentType: "text/plain", body: "deny " + echo},
			"emqx":     okJSON(`{"result":"allow","acl":[{"permission":"allow","action":"all","topics":["$share/` + echo + `"]}]}`),
		} {
			_, err := asked(t, a, Options{Preset: preset}, pump())
			if err == nil || strings.Contains(err.Error(), echo) {
				t.Errorf("%s: the error repeats what the service echoed", preset)
			}
		}
	}
}

func TestRequireAndFields(t *testing.T) {
	o := Options{
		Preset:  "introspection",
		Require: map[string]string{"iss": "https://login", "aud": "mqtt", "scope": "connect"},
		Fields:  map[string]string{"subject": "ext.device", "upstream.username": "username", "token_id": ""},
	}
	for body, want := range map[string]string{
		`{"active":true,"iss":"https://login","aud":["web","mqtt"],"scope":"read connect","ext":{"device":"d"},"username":"u","jti":"j"}`: "allow",
		`{"active":true,"iss":"https://login","aud":"mqtt","scope":["connect"]}`:                                                          "allow",
		`{"active":true,"iss":"https://login","aud":"mqtt","scope":"connected"}`:                                                          "deny not_authorized",
		`{"active":true,"iss":"https://login","aud":"mqtt web","scope":"connect"}`:                                                        "deny not_authorized",
		`{"active":true,"iss":"https://other","aud":"mqtt","scope":"connect"}`:                                                            "deny not_authorized",
		`{"active":true,"aud":"mqtt","scope":"connect"}`:                                                                                  "deny not_authorized",
		`{"active":true,"ISS":"https://login","aud":"mqtt","scope":"connect"}`:                                                            "error",
	} {
		g, err := asked(t, okJSON(body), o, pump())
		if got := outcomeOf(g, err); got != want {
			t.Errorf("%s is %s (%v), want %s", body, got, err, want)
		}
		if g != nil && strings.Contains(body, "ext") && (g.Subject != "d" || g.Upstream.Username != "u" || g.TokenID == "j") {
			t.Errorf("the grant is %+v", g)
		}
	}
}

func TestKeepOfHeaders(t *testing.T) {
	for text, want := range map[string]authz.Keep{
		"":                                  {},
		"no-store":                          notAtAll(),
		"NO-CACHE":                          notAtAll(),
		"max-age=0":                         notAtAll(),
		"max-age=abc":                       notAtAll(),
		"max-age=5, max-age=60":             {TTL: 5 * time.Second},
		`max-age="7"`:                       {TTL: 7 * time.Second},
		"s-maxage=5, private":               {},
		"must-revalidate, max-age=9":        {TTL: 9 * time.Second, Stale: -1},
		"max-age=99999999999999999999":      {TTL: freshness.Longest},
		"x=\"no-storage\" , max-age = 3":    {TTL: 3 * time.Second},
		"public,max-age=10,must-revalidate": {TTL: 10 * time.Second, Stale: -1},
	} {
		if got := keepOf(http.Header{"Cache-Control": {text}}); got != want {
			t.Errorf("Cache-Control: %s gives %v, want %v", text, got, want)
		}
	}
	if got := keepOf(http.Header{"Cache-Control": {"max-age=60"}, "Age": {"61"}}); got != notAtAll() {
		t.Errorf("an answer older than its max-age is kept: %v", got)
	}
	a := reply{status: 204, header: http.Header{"Cache-Control": {"no-store"}}}
	if g, err := asked(t, a, Options{IgnoreCacheControl: true}, pump()); err != nil || g.Keep != (authz.Keep{}) {
		t.Errorf("an ignored Cache-Control counts: %v, %v", g, err)
	}
}

// TestVary: an answer may depend on fewer variables than the service was sent, and on no
// others.
func TestVary(t *testing.T) {
	for vary, want := range map[string]*authz.Keep{
		``:                                {},
		`,"vary":[]`:                      {Narrow: true},
		`,"vary":["token"]`:               {Narrow: true},
		`,"vary":["clientid"]`:            {Narrow: true, Vary: authz.PartClientID},
		`,"vary":["client_id"]`:           {Narrow: true, Vary: authz.PartClientID},
		`,"vary":["clientid","username"]`: {Narrow: true, Vary: authz.PartClientID | authz.PartUsername},
		`,"vary":["peerhost"]`:            nil, // a variable that is not sent to the service
		`,"vary":["weather"]`:             nil,
		`,"vary":"clientid"`:              nil,
		`,"vary":[1]`:                     nil,
		`,"vary":null`:                    nil,
	} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"result":"allow"` + vary + `}`))
		})
		g, err := sourceOf(t, Options{URL: server.URL}).Authorize(t.Context(), pump())
		switch {
		case want == nil && (err == nil || errors.Is(err, authz.ErrDenied)):
			t.Errorf("%s: %v, %v; want an error that is no denial", vary, g, err)
		case want != nil && (err != nil || g.Keep != *want):
			t.Errorf("%s: %v, %v", vary, g, err)
		}
	}
}
