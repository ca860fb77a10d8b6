package admin

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// browser sends requests as a browser does that is at an address of the admin side.
type browser struct {
	t      *testing.T
	h      http.Handler
	remote string // the browser's address
	local  string // the address that it connects to
	host   string // the Host header
	tls    bool
	header map[string]string
	cookie *http.Cookie
}

func newBrowser(t *testing.T, h http.Handler) *browser {
	return &browser{t: t, h: h, remote: "127.0.0.1:50000", local: "127.0.0.1:9883", host: "127.0.0.1:9883"}
}

func (b *browser) do(method, path string, form url.Values) *http.Response {
	b.t.Helper()
	local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(b.local))
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r = r.WithContext(context.WithValue(b.t.Context(), http.LocalAddrContextKey, net.Addr(local)))
	r.RemoteAddr, r.Host = b.remote, b.host
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("Accept", "text/html,*/*")
	for name, value := range b.header {
		r.Header.Set(name, value)
	}
	if b.tls {
		r.TLS = new(tls.ConnectionState)
	}
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	return w.Result()
}

// signIn sends a token and keeps the cookie.
func (b *browser) signIn(token string) *http.Response {
	b.t.Helper()
	resp := b.do("POST", "/sign-in", url.Values{"token": {token}, "next": {"/v1/status?x=1"}})
	for _, c := range resp.Cookies() {
		b.cookie = c
	}
	return resp
}

func bodyOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestSignInGivesACookieWithTheRoleOfTheToken(t *testing.T) {
	b := newBrowser(t, newHandler(allParts()))
	if resp := b.do("GET", "/v1/status", nil); resp.StatusCode != 401 || !strings.Contains(bodyOf(t, resp), `action="/sign-in"`) {
		t.Errorf("without a cookie: status %d, want 401 and the form", resp.StatusCode)
	}
	resp := b.signIn(testTokens[Read] + "\n")
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/v1/status?x=1" || b.cookie == nil {
		t.Fatalf("status %d, location %q, cookie %v", resp.StatusCode, resp.Header.Get("Location"), b.cookie)
	}
	c := b.cookie
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" || c.Domain != "" || c.MaxAge != 12*60*60 || c.Name != "mqtt-auth-proxy-9883" {
		t.Errorf("cookie %v", c)
	}
	if strings.Contains(c.Value, testTokens[Read]) {
		t.Error("the cookie has the token")
	}
	for path, want := range map[string]int{"/v1/status": 200, "/": 200, "/metrics": 200, "/debug/pprof/heap": 403} {
		if got := b.do("GET", path, nil).StatusCode; got != want {
			t.Errorf("GET %s: status %d, want %d", path, got, want)
		}
	}
	if got := b.do("DELETE", "/v1/cache", nil).StatusCode; got != 403 {
		t.Errorf("a reader empties the cache: status %d", got)
	}
	kept := b.cookie
	if resp := b.do("POST", "/sign-out", url.Values{}); resp.StatusCode != 303 || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("sign-out: status %d, cookies %v", resp.StatusCode, resp.Cookies())
	}
	b.cookie = kept
	if got := b.do("GET", "/v1/status", nil).StatusCode; got != 401 {
		t.Errorf("after the sign-out the cookie still opens: status %d", got)
	}
}

func TestCookieIsSecureUnderTLS(t *testing.T) {
	b := newBrowser(t, newHandler(allParts()))
	b.tls = true
	if b.signIn(testToken); b.cookie == nil || !b.cookie.Secure || !strings.HasPrefix(b.cookie.Name, "__Host-") {
		t.Errorf("cookie %v", b.cookie)
	}
}

// TestOperatorsCookieChanges: the cookie of an operator may do what the token may.
func TestOperatorsCookieChanges(t *testing.T) {
	b := newBrowser(t, newHandler(allParts()))
	b.signIn(testToken)
	b.header = map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:9883"}
	if got := b.do("DELETE", "/v1/cache", nil).StatusCode; got != 200 {
		t.Errorf("status %d", got)
	}
}

func TestMetricsTokenDoesNotSignIn(t *testing.T) {
	b := newBrowser(t, newHandler(allParts()))
	if resp := b.signIn(testTokens[Metrics]); resp.StatusCode != 403 || b.cookie != nil {
		t.Errorf("status %d, cookie %v", resp.StatusCode, b.cookie)
	}
}

func TestSignInEndsAfterTwelveHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBrowser(t, newHandler(allParts()))
		b.signIn(testToken)
		time.Sleep(12*time.Hour - time.Second)
		if got := b.do("GET", "/v1/status", nil).StatusCode; got != 200 {
			t.Errorf("before 12 hours: status %d", got)
		}
		time.Sleep(2 * time.Second)
		if got := b.do("GET", "/v1/status", nil).StatusCode; got != 401 {
			t.Errorf("after 12 hours: status %d", got)
		}
	})
}

func TestSignInEndsWithItsToken(t *testing.T) {
	tokens := maps.Clone(testTokens)
	o := allParts()
	o.Access = func() *Access { return &Access{Tokens: tokens} }
	var who Requester
	o.Page = []Route{{"GET /who", Read, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { who = RequesterOf(r.Context()) })}}
	h := newHandler(o)
	reader, operator := newBrowser(t, h), newBrowser(t, h)
	reader.signIn(tokens[Read])
	operator.signIn(tokens[Operate])
	operator.do("GET", "/who", nil)
	tokens[Operate] = "another-admin-token-for-tests"
	if got := operator.do("GET", "/v1/status", nil).StatusCode; got != 401 || who.Current() {
		t.Errorf("the token has changed, and the cookie still opens: status %d, current %v", got, who.Current())
	}
	if got := reader.do("GET", "/v1/status", nil).StatusCode; got != 200 {
		t.Errorf("the token of another role has changed: status %d", got)
	}
	tokens[Read] = ""
	if got := reader.do("GET", "/v1/status", nil).StatusCode; got != 401 {
		t.Errorf("the role has gone: status %d", got)
	}
}

func TestSignInsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s signIns
		first := s.begin(Read, testTokens)
		time.Sleep(time.Second)
		for range maxSignIns {
			s.begin(Read, testTokens)
		}
		if len(s.open) != maxSignIns {
			t.Errorf("%d sign-ins are kept", len(s.open))
		}
		if s.role(first, testTokens) != Everyone {
			t.Error("the first sign-in was not the one to end")
		}
	})
}

func TestTenWrongSignInsAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBrowser(t, newHandler(allParts()))
		for i := range 10 {
			if got := b.signIn(fmt.Sprint("guess", i)).StatusCode; got != 401 {
				t.Fatalf("guess %d: status %d", i, got)
			}
		}
		resp := b.signIn(testToken)
		if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || b.cookie != nil {
			t.Errorf("the right token after ten wrong ones: status %d, cookie %v", resp.StatusCode, b.cookie)
		}
		other := newBrowser(t, b.h)
		other.remote = "127.0.0.2:50000"
		if got := other.signIn(testToken).StatusCode; got != 303 {
			t.Errorf("another address: status %d", got)
		}
		time.Sleep(time.Minute)
		if got := b.signIn(testToken).StatusCode; got != 303 {
			t.Errorf("a minute later: status %d", got)
		}
	})
}

// TestFailuresAreCountedByNetwork: a site can choose among all addresses of its IPv6 /64.
func TestFailuresAreCountedByNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f failures
		wrong := func(addr string) bool { return f.try(netip.MustParseAddr(addr), func() bool { return false }) == 0 }
		for i := range maxFailures {
			if !wrong(fmt.Sprintf("2001:db8::%d", i)) {
				t.Fatalf("failure %d is not checked", i)
			}
		}
		if wrong("2001:db8::ffff") {
			t.Error("the eleventh failure of a /64 is checked")
		}
		if !wrong("2001:db8:0:1::1") {
			t.Error("another /64 is not checked")
		}
	})
}

// TestFailuresAreBounded: with more addresses than are counted, the others share one budget, and
// the counts go when their time is over.
func TestFailuresAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f failures
		checked := 0
		wrong := func(i int) {
			addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			f.try(addr, func() bool { checked++; return false })
		}
		for i := range maxFailing + 100 {
			wrong(i)
		}
		if len(f.counts) > maxFailing+1 || checked != maxFailing+maxFailures {
			t.Errorf("%d counts, %d checked", len(f.counts), checked)
		}
		time.Sleep(failureTime)
		wrong(maxFailing + 200)
		if len(f.counts) != 1 {
			t.Errorf("%d counts are left", len(f.counts))
		}
	})
}

func TestSignInLeadsNowhereElse(t *testing.T) {
	for next, want := range map[string]string{
		"": "/", "/": "/", "/devices?subject=a%20b": "/devices?subject=a%20b",
		"//evil.example": "/", `/\evil.example`: "/", "https://evil.example/": "/", "javascript:alert(1)": "/",
		"devices": "/", "/a\r\nSet-Cookie: x=y": "/", "http:///x": "/", "\t//evil.example": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
}

// TestFormShowsNothingOfTheRequest: what a link can contain stays text in the form.
func TestFormShowsNothingOfTheRequest(t *testing.T) {
	b := newBrowser(t, newHandler(allParts()))
	body := bodyOf(t, b.do("GET", `/?a="><script>alert(1)</script>`, nil))
	if strings.Contains(body, "<script") || !strings.Contains(body, "</html>") {
		t.Errorf("form: %s", body)
	}
	resp := b.signIn("a-wrong-token<script>")
	if body := bodyOf(t, resp); strings.Contains(body, "a-wrong-token") {
		t.Errorf("the form repeats the token: %s", body)
	}
	if got := b.do("POST", "/sign-in", url.Values{"token": {strings.Repeat("x", maxForm)}}).StatusCode; got != 400 {
		t.Errorf("a large form: status %d", got)
	}
}
