package tokenhttp

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestHostileValues: no value affects the text around it, and a value that is not allowed at
// its position is refused without a call.
func TestHostileValues(t *testing.T) {
	compiled := func(o Options) *requestBuilder {
		p, _ := presetNamed(o.Preset)
		a, err := o.compile(&p)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	const at = "https://service.test/v1/${token}/attributes"
	path := compiled(Options{Preset: "status", URL: at})
	query := compiled(Options{Preset: "status", URL: "https://service.test/v1?t=${token}&x=y"})
	header := compiled(Options{Preset: "status", URL: "https://service.test/", Headers: map[string]string{"X-Token": "${token}"}})
	body := compiled(Options{URL: "https://service.test/", Body: `{"t":"${token}","x":"y"}`})
	form := compiled(Options{URL: "https://service.test/", Format: "form", Body: "t=${token}&x=y"})
	for text, fits := range map[string]struct{ path, query, header, json bool }{
		"plain":                             {true, true, true, true},
		"a/b":                               {true, true, true, true},
		"a b&c=d#e?f%00+g":                  {true, true, true, true},
		`"},{"result":"allow`:               {true, true, true, true},
		"${clientid}":                       {true, true, true, true},
		"..":                                {false, true, true, true},
		"a/../b":                            {false, true, true, true},
		`..\a`:                              {false, true, true, true},
		"/":                                 {false, true, true, true},
		"a\r\nX: y":                         {false, true, false, true},
		"a\x00":                             {false, true, false, true},
		" a":                                {true, true, false, true},
		"a ":                                {true, true, false, true},
		"\xff":                              {true, true, true, false},
		"\u00e9":                            {true, true, true, true},
		strings.Repeat("x", maxLineValue+1): {false, false, false, true},
		strings.Repeat("x", maxValue+1):     {false, false, false, false},
	} {
		r := authz.Request{Token: authz.NewToken(text)}
		for name, c := range map[string]struct {
			a    *requestBuilder
			fits bool
			read func(m *message) string
		}{
			"path": {path, fits.path, func(m *message) string {
				u, _ := url.Parse(m.url)
				return strings.TrimSuffix(strings.TrimPrefix(u.Path, "/v1/"), "/attributes")
			}},
			"query":  {query, fits.query, func(m *message) string { u, _ := url.Parse(m.url); return u.Query().Get("t") }},
			"header": {header, fits.header, func(m *message) string { return m.header.Get("X-Token") }},
			"json": {body, fits.json, func(m *message) string {
				var v map[string]string
				if json.Unmarshal(m.body, &v) != nil || len(v) != 2 {
					return "(not the JSON it should be)"
				}
				return v["t"]
			}},
			"form": {form, len(text) <= maxValue, func(m *message) string { v, _ := url.ParseQuery(string(m.body)); return v.Get("t") }},
		} {
			m, err := c.a.message(&r, "")
			switch {
			case (err == nil) != c.fits:
				t.Errorf("%s of %.40q: error %v", name, text, err)
			case err == nil && c.read(m) != text:
				t.Errorf("%s of %.40q arrives as %.40q", name, text, c.read(m))
			}
		}
	}
}

// TestRefusalOfInvalidValues: a token that cannot be valid is denied in another way than other
// data.
func TestRefusalOfInvalidValues(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the service is asked") })
	s := sourceOf(t, Options{Preset: "status", URL: server.URL, Headers: map[string]string{"X-T": "${token}", "X-C": "${clientid}"}})
	r := pump()
	r.ClientID = "a\r\nb"
	if got := outcomeOf(s.Authorize(t.Context(), r)); got != "deny not_authorized" {
		t.Errorf("a client id with a line end: %s", got)
	}
	r.Token = authz.NewToken("a\nb")
	r.ClientID = "c"
	if got := outcomeOf(s.Authorize(t.Context(), r)); got != "deny unknown_token" {
		t.Errorf("a token with a line end: %s", got)
	}
}

func TestVariables(t *testing.T) {
	peer := &x509.Certificate{Subject: pkix.Name{CommonName: "pump", Organization: []string{"Works"}}, Raw: []byte("der")}
	r := authz.Request{
		Token: authz.NewToken("t"), Password: authz.NewToken("p"), Username: "u", ClientID: "c", Listener: "l", Protocol: 4,
		Addr: netip.MustParseAddrPort("[::ffff:192.0.2.7]:1234"), Peer: peer, Purpose: authz.Recheck,
	}
	const want = "t dA== u p c 192.0.2.7 l mqtt 4 pump CN=pump,O=Works 5050d80d22ecd471ea55df7034042c1e041341ff4066e7f6ff38e20b720df8ea " +
		"-----BEGIN CERTIFICATE-----\nZGVy\n-----END CERTIFICATE-----\n recheck s"
	var names, empty []string
	for _, v := range allVariables() {
		names = append(names, "${"+v.name+"}")
		empty = append(empty, v.value(&input{request: &authz.Request{}}))
	}
	c := &compiler{grammar: grammar(false), used: map[string]bool{}}
	tm, err := c.compile(strings.Join(names, " "), inForm)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tm.append(nil, &input{request: &r, secret: "s"})
	if got, _ := url.QueryUnescape(string(b)); err != nil || got != want {
		t.Errorf("the variables are\n%s (%v), want\n%s", got, err, want)
	}
	if got := strings.Join(empty, ","); got != ",,,,,,,mqtt,0,,,,,connect," {
		t.Errorf("of an empty request the variables are %q", got)
	}
}

// TestVariablesHaveOtherSpellings: the names of EMQX have the same meaning.
func TestVariablesHaveOtherSpellings(t *testing.T) {
	c := &compiler{grammar: grammar(true), used: map[string]bool{}}
	tm, err := c.compile("${clientid}=${client_id}=%c ${peerhost}=${client_addr}=%a", inForm)
	if err != nil {
		t.Fatal(err)
	}
	r := authz.Request{ClientID: "c", Addr: netip.MustParseAddrPort("192.0.2.7:1")}
	if b, err := tm.append(nil, &input{request: &r}); string(b) != "c=c=c 192.0.2.7=192.0.2.7=192.0.2.7" || err != nil {
		t.Errorf("%s, %v", b, err)
	}
}

func TestOptionsErrors(t *testing.T) {
	const at = "https://service.test/"
	dir := t.TempDir()
	empty, secret := filepath.Join(dir, "empty"), filepath.Join(dir, "secret")
	write(t, empty, "\n")
	write(t, secret, "s3cret-of-the-proxy")
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"nothing":             {Options{}, "url: missing"},
		"a preset":            {Options{URL: at, Preset: "emqx9"}, "preset: unknown"},
		"a scheme":            {Options{URL: "ftp://x/"}, "url: must begin"},
		"a host":              {Options{URL: "https:///x"}, "url: a host"},
		"a variable host":     {Options{URL: "https://${clientid}/"}, "url: a host"},
		"credentials":         {Options{URL: "https://a:hunter2@x/"}, "url: it must not contain a user name"},
		"a fragment":          {Options{URL: at + "#x"}, "url: it must not have a fragment"},
		"an escape":           {Options{URL: at + "%zz"}, "url: not a valid"},
		"a variable":          {Options{URL: at + "${topic}"}, "url: the placeholder at byte 22 is unknown; allowed are ${token}, ${token_b64}, "},
		"an open variable":    {Options{URL: at + "${token"}, "url: the placeholder at byte 22 has no closing brace"},
		"a method":            {Options{URL: at, Method: "DELETE"}, "method:"},
		"a format":            {Options{URL: at, Format: "xml"}, "format:"},
		"GET with a body":     {Options{URL: at, Method: "GET", Format: "json"}, "format: GET"},
		"a body for none":     {Options{URL: at, Format: "none", Body: "x"}, "body:"},
		"no such body":        {Options{URL: at, Format: "form"}, "body: missing"},
		"no JSON":             {Options{URL: at, Body: `{"a":"${token}"`}, "body: not valid JSON"},
		"outside quotes":      {Options{URL: at, Body: `{"a":${token}}`}, "outside quotes"},
		"outside after quote": {Options{URL: at, Body: `{"a\\\"":"\\",${token}:1}`}, "outside quotes"},
		"no token":            {Options{URL: at, Body: `{"a":"${clientid}"}`}, "neither ${token}"},
		"no token in status":  {Options{URL: at, Preset: "status"}, "neither ${token}"},
		"a volatile one":      {Options{URL: at + "${peerport}"}, "${peerport} is new with every connection"},
		"a header name":       {Options{URL: at, Headers: map[string]string{"a b": "c"}}, "headers: a name"},
		"a header of ours":    {Options{URL: at, Headers: map[string]string{"host": "c"}}, "headers: Host"},
		"a header twice":      {Options{URL: at, Headers: map[string]string{"x-a": "c", "X-A": "d"}}, "headers: X-A is set twice"},
		"a header value":      {Options{URL: at, Headers: map[string]string{"x-a": "c\n"}}, "headers: X-A"},
		"a status":            {Options{URL: at, DenyStatus: []int{42}}, "42 is no final"},
		"a status in both":    {Options{URL: at, DenyStatus: []int{404}, AllowStatus: []int{404}}, "404 is in both"},
		"a field":             {Options{URL: at, Fields: map[string]string{"sub": "x"}}, "fields: sub is no field"},
		"fields of a text":    {Options{URL: at, Preset: "rabbitmq", Require: map[string]string{"a": "b"}}, "fields, require"},
		"require passed by":   {Options{URL: at, Require: map[string]string{"a": "b"}, AllowStatus: []int{201}}, "require, allow_status"},
		"a timeout":           {Options{URL: at, Timeout: -1}, "timeout: negative"},
		"no file":             {Options{URL: at, BearerFile: filepath.Join(dir, "none")}, "bearer_file: stat"},
		"an empty file":       {Options{URL: at, BasicFile: empty}, "basic_file: "},
		"no colon":            {Options{URL: at, BasicFile: secret}, "user:password"},
		"no secret":           {Options{URL: at + "${secret}"}, "secret_file: missing"},
		"two credentials":     {Options{URL: at, BearerFile: secret, Headers: map[string]string{"authorization": "x"}}, "more than once"},
		"a lone certificate":  {Options{URL: at, CertificateFile: secret}, "one without the other"},
		"no certificate":      {Options{URL: at, CertificateFile: secret, KeyFile: secret}, "not a certificate"},
		"no authority":        {Options{URL: at, CAFile: secret}, "tls.ca: "},
	} {
		s, err := New(c.o)
		if s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want %q in it", name, err, c.want)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error holds a secret", name)
		}
	}
	_, err := New(Options{URL: "ftp://x", Body: "x", Headers: map[string]string{"": ""}})
	if err == nil || len(strings.Split(err.Error(), "\n")) < 3 {
		t.Errorf("not all faults are named: %v", err)
	}
	for _, name := range Presets() {
		if _, err := New(Options{URL: at + "?t=${token}", Preset: name}); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
}

func FuzzTemplates(f *testing.F) {
	f.Add(`{"t":"${token}"}`, "token", "client")
	f.Add(`{"t":"\"${password}","%c":"${clientid}"}`, "\"\\\n\x00", "\u2028")
	f.Add("t=${token}&c=${clientid}&%u", "a&b=c#", "\xff")
	f.Fuzz(func(t *testing.T, text, token, client string) {
		r := authz.Request{Token: authz.NewToken(token), ClientID: client}
		for _, o := range []Options{
			{URL: "https://h/", Body: text},
			{URL: "https://h/", Body: text, Format: "form", Preset: "emqx4"},
			{URL: "https://h/" + text, Preset: "status"},
			{URL: "https://h/${token}", Headers: map[string]string{"X-A": text}},
		} {
			p, _ := presetNamed(o.Preset)
			a, err := o.compile(&p)
			if err != nil {
				continue
			}
			m, err := a.message(&r, "secret")
			if err != nil {
				continue
			}
			u, err := url.Parse(m.url)
			if err != nil || u.Host != "h" || u.Scheme != "https" || u.User != nil || u.Fragment != "" {
				t.Errorf("the URL of %q leads elsewhere", o.URL)
			}
			if o.Body != "" && o.Format == "" && (!json.Valid(m.body) || !utf8.Valid(m.body)) && utf8.ValidString(o.Body) {
				t.Errorf("the body of %q is not JSON", o.Body)
			}
			if strings.ContainsAny(m.header.Get("X-A"), "\r\n\x00") {
				t.Errorf("the header of %q has a line end", text)
			}
		}
	})
}
