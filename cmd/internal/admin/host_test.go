package admin

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"
)

func TestHostIsCheckedForBrowsers(t *testing.T) {
	o := allParts()
	o.Access = func() *Access {
		return &Access{
			Tokens: testTokens, Address: "admin.internal:9883", Hosts: []string{"Proxy.example", "2001:db8::7"},
			Certificates: func() []*x509.Certificate { return []*x509.Certificate{{DNSNames: []string{"*.fleet.example"}}} },
		}
	}
	h := newHandler(o)
	signedIn := newBrowser(t, h)
	signedIn.signIn(testToken)
	for host, known := range map[string]bool{
		"127.0.0.1:9883": true, "localhost": true, "LOCALHOST:9883": true, "localhost.": true, "[::1]:9883": true, "127.0.0.53": true,
		"admin.internal:1": true, "proxy.example": true, "[2001:db8::7]": true, "a.fleet.example:9883": true,
		"evil.example": false, "evil.example:9883": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false,
		"proxy.example.evil.example": false, "fleet.example": false, "192.0.2.1": false, "": false, "localhost@evil.example": false,
	} {
		plain := newBrowser(t, h)
		plain.host, signedIn.host = host, host
		want := map[bool]int{true: 200, false: 421}[known]
		for _, path := range []string{"/v1/status", "/", "/livez"} {
			if got := signedIn.do("GET", path, nil).StatusCode; got != want {
				t.Errorf("%s with the cookie as %q: status %d, want %d", path, host, got, want)
			}
		}
		want = map[bool]int{true: 401, false: 421}[known]
		if got := plain.do("GET", "/", nil).StatusCode; got != want {
			t.Errorf("/ without a cookie as %q: status %d, want %d", host, got, want)
		}
		if got := plain.do("POST", "/sign-in", url.Values{"token": {testToken}}).StatusCode; (got == 303) != known {
			t.Errorf("sign-in as %q: status %d", host, got)
		}
		plain.header = map[string]string{"Authorization": "Bearer " + testTokens[Metrics]}
		for _, path := range []string{"/metrics", "/livez", "/readyz"} {
			if got := plain.do("GET", path, nil).StatusCode; got != 200 {
				t.Errorf("%s with a bearer token as %q: status %d", path, host, got)
			}
		}
	}
}

// TestNoFormForAForeignHost: a page whose name resolves to this machine sees no form.
func TestNoFormForAForeignHost(t *testing.T) {
	b := newBrowser(t, newHandler(allParts()))
	b.host = "evil.example:9883"
	if resp := b.do("GET", "/v1/status", nil); resp.StatusCode != 401 || strings.Contains(bodyOf(t, resp), "<form") {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestSignInNeedsAProtectedWay: over a network the token would be readable without TLS.
func TestSignInNeedsAProtectedWay(t *testing.T) {
	o := allParts()
	hosts := []string{}
	o.Access = func() *Access { return &Access{Tokens: testTokens, Hosts: hosts} }
	b := newBrowser(t, newHandler(o))
	b.local, b.host, b.remote = "192.0.2.9:9883", "192.0.2.9:9883", "192.0.2.50:1000"
	if body := bodyOf(t, b.do("GET", "/", nil)); strings.Contains(body, `action="/sign-in"`) || !strings.Contains(body, "admin.tls") || !strings.Contains(body, "<code>192.0.2.9</code>") {
		t.Errorf("want the reason instead of the form: %s", body)
	}
	if resp := b.signIn(testToken); resp.StatusCode != 403 || b.cookie != nil {
		t.Errorf("status %d, cookie %v", resp.StatusCode, b.cookie)
	}
	hosts = []string{"192.0.2.9"}
	if resp := b.signIn(testToken); resp.StatusCode != 303 {
		t.Errorf("a listed host: status %d", resp.StatusCode)
	}
	hosts, b.tls, b.cookie = nil, true, nil
	if resp := b.signIn(testToken); resp.StatusCode != 303 {
		t.Errorf("with TLS: status %d", resp.StatusCode)
	}
}

// TestOtherOriginsCannotUseTheCookie tries what a page of another origin can make a browser
// send: a form, fetch with a content type that needs no preflight request, a link, an image.
func TestOtherOriginsCannotUseTheCookie(t *testing.T) {
	h := newHandler(allParts())
	b := newBrowser(t, h)
	b.signIn(testToken)
	for name, header := range map[string]map[string]string{
		"form of another site":   {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Origin": "https://evil.example"},
		"fetch of another site":  {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Content-Type": "text/plain", "Origin": "https://evil.example"},
		"page of another port":   {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},
		"old browser":            {"Origin": "https://evil.example"},
		"frame without a origin": {"Origin": "null"},
	} {
		b.header = header
		for _, change := range [][2]string{{"POST", "/v1/revocations"}, {"DELETE", "/v1/cache"}, {"POST", "/v1/reload"}, {"POST", "/sign-in"}, {"POST", "/sign-out"}} {
			if got := b.do(change[0], change[1], url.Values{"token": {testToken}}).StatusCode; got != 403 {
				t.Errorf("%s: %s %s: status %d, want 403", name, change[0], change[1], got)
			}
		}
		if got := b.do("GET", "/v1/sessions", nil).StatusCode; header["Sec-Fetch-Site"] != "" && got != 401 {
			t.Errorf("%s: the cookie counts for a GET: status %d", name, got)
		}
	}
	b.header = map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
	if body := bodyOf(t, b.do("GET", "/", nil)); !strings.Contains(body, `http-equiv="refresh"`) {
		t.Errorf("a link from another site does not make the browser ask again: %s", body)
	}
	b.header = map[string]string{"Sec-Fetch-Site": "same-origin"}
	if got := b.do("GET", "/", nil).StatusCode; got != 200 {
		t.Errorf("the second time: status %d", got)
	}
}

// TestEveryAnswerIsHardened: no answer may be framed, cached, or load anything from elsewhere.
func TestEveryAnswerIsHardened(t *testing.T) {
	h := newHandler(allParts())
	b := newBrowser(t, h)
	check := func(what string, header map[string][]string) {
		t.Helper()
		for name, want := range map[string]string{
			"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Permissions-Policy": "camera=()",
		} {
			if got := strings.Join(header[name], ""); !strings.Contains(got, want) {
				t.Errorf("%s: %s is %q", what, name, got)
			}
		}
		if got := strings.Join(header["Content-Security-Policy"], ""); !strings.HasPrefix(got, "default-src 'none'") || strings.Contains(got, "unsafe") || strings.Contains(got, "*") {
			t.Errorf("%s: policy %q", what, got)
		}
	}
	for _, path := range []string{"/", "/v1/status", "/livez", "/no/such/path"} {
		check(path+" without a cookie", b.do("GET", path, nil).Header)
	}
	check("wrong token", b.signIn("wrong").Header)
	check("sign-in", b.signIn(testToken).Header)
	for _, path := range []string{"/", "/v1/status", "/v1/sessions", "/metrics", "/no/such/path", "/debug/pprof/"} {
		check(path, b.do("GET", path, nil).Header)
	}
}
