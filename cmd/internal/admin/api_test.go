package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// fakeProxy has two sessions and records what is done to them.
type fakeProxy struct {
	clients []*proxy.Client
	cause   error
	asked   []Withdrawal
	full    error
	saved   int
	save    error
	reload  error
}

func newFakeProxy() *fakeProxy {
	client := func(id uint64, subject, clientID string) *proxy.Client {
		return &proxy.Client{
			ID: id, ClientID: clientID, Grant: &authz.Grant{TokenID: "id-" + subject, Subject: subject, Expires: time.Unix(4e9, 0)},
			TokenHash: authz.NewToken("secret-of-" + subject).Hash(), Addr: netip.MustParseAddrPort("192.0.2.1:1000"),
			Listener: "mqtts", Level: 5, TLS: 0x0304, Since: time.Unix(1e9, 0),
		}
	}
	return &fakeProxy{clients: []*proxy.Client{client(1, "alpha", "a"), client(2, "beta", "b")}}
}

func (f *fakeProxy) handler() http.Handler {
	return newHandler(Options{Access: operator(testToken), PushSecret: fixed(testSecret), API: f.api()})
}

func (f *fakeProxy) api() *API {
	return &API{
		Status:   func() Status { return Status{Version: "test"} },
		Sessions: f.sessions,
		Kick: func(match func(*proxy.Client) bool, cause error) int {
			before := len(f.clients)
			f.clients, f.cause = slices.DeleteFunc(f.clients, match), cause
			return before - len(f.clients)
		},
		KickSubject: func(subject string) int {
			before := len(f.clients)
			f.clients = slices.DeleteFunc(f.clients, func(c *proxy.Client) bool { return c.Subject() == subject })
			return before - len(f.clients)
		},
		Withdraw: func(w Withdrawal) (int, error) {
			f.asked = append(f.asked, w)
			return 3, f.full
		},
		Save:   func() error { f.saved++; return f.save },
		Purge:  func() int { return 7 },
		Reload: func(context.Context) error { return f.reload },
	}
}

// sessions returns the sessions of f, the first of which is idle.
func (f *fakeProxy) sessions() iter.Seq2[*proxy.Client, func() proxy.Activity] {
	return func(yield func(*proxy.Client, func() proxy.Activity) bool) {
		for _, c := range f.clients {
			activity := proxy.Activity{Up: 1000, Down: 20, Idle: -1}
			if c.ID == 1 {
				activity.Idle = 90500 * time.Millisecond
			}
			if !yield(c, func() proxy.Activity { return activity }) {
				return
			}
		}
	}
}

// call makes a request with the admin token and returns status and body.
func call(h http.Handler, method, path, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+testToken)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	text, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(text)
}

func TestSessionsAreListedAndFiltered(t *testing.T) {
	h := newFakeProxy().handler()
	for _, tt := range []struct {
		query string
		total int
		ids   []uint64
	}{
		{"", 2, []uint64{1, 2}},
		{"?subject=beta", 1, []uint64{2}},
		{"?client_id=a", 1, []uint64{1}},
		{"?subject=beta&client_id=a", 0, nil},
		{"?subject=", 0, nil},
		{"?limit=1", 2, []uint64{1}},
	} {
		status, body := call(h, "GET", "/v1/sessions"+tt.query, "")
		var got Sessions
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
			t.Fatalf("%s: status %d, %s", tt.query, status, body)
		}
		var ids []uint64
		for _, s := range got.Sessions {
			ids = append(ids, s.ID)
		}
		if got.Total != tt.total || !slices.Equal(ids, tt.ids) {
			t.Errorf("%s: total %d, ids %v", tt.query, got.Total, ids)
		}
	}
	for _, bad := range []string{"limit=0", "limit=-1", "limit=x", "limit=10001", "offset=5", "subject=a&subject=b"} {
		if status, _ := call(h, "GET", "/v1/sessions?"+bad, ""); status != 400 {
			t.Errorf("%s: status %d", bad, status)
		}
	}
}

func TestSubjectIsKicked(t *testing.T) {
	f := newFakeProxy()
	h := f.handler()
	for _, query := range []string{"", "?subject=", "?client_id=a", "?subject=beta&client_id=b", "?subject=" + strings.Repeat("x", 257)} {
		if status, body := call(h, "DELETE", "/v1/sessions"+query, ""); status != 400 || len(f.clients) != 2 {
			t.Errorf("%q: status %d, %s; %d sessions are left, want 2", query, status, body, len(f.clients))
		}
	}
	if status, body := call(h, "DELETE", "/v1/sessions?subject=beta", ""); status != 200 || body != "{\"sessions\":1}\n" {
		t.Errorf("status %d, %s", status, body)
	}
	if len(f.clients) != 1 || f.clients[0].Subject() != "alpha" {
		t.Errorf("%d sessions are left, want that of alpha", len(f.clients))
	}
}

func TestSessionIsIdentifiedWithoutSecrets(t *testing.T) {
	_, body := call(newFakeProxy().handler(), "GET", "/v1/sessions?subject=alpha", "")
	var got Sessions
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	expires := time.Unix(4e9, 0).UTC()
	idle := int64(90)
	want := Session{
		ID: 1, Subject: "alpha", TokenID: "id-alpha", Fingerprint: authz.NewToken("secret-of-alpha").Fingerprint(), ClientID: "a",
		Address: "192.0.2.1:1000", Listener: "mqtts", Version: "5.0", TLS: "TLS 1.3", Since: time.Unix(1e9, 0).UTC(), Expires: &expires,
		BytesUp: 1000, BytesDown: 20, IdleSeconds: &idle,
	}
	if diff := cmp.Diff([]Session{want}, got.Sessions); diff != "" || strings.Contains(body, "secret") {
		t.Errorf("%s%s", diff, body)
	}
}

func TestKickEndsOneSession(t *testing.T) {
	f := newFakeProxy()
	h := f.handler()
	if status, _ := call(h, "DELETE", "/v1/sessions/2", ""); status != 204 || len(f.clients) != 1 || !errors.Is(f.cause, proxy.ErrKicked) {
		t.Errorf("status %d, %d sessions left, cause %v", status, len(f.clients), f.cause)
	}
	for _, id := range []string{"2", "x", "-1"} {
		if status, _ := call(h, "DELETE", "/v1/sessions/"+id, ""); status != 404 {
			t.Errorf("id %s: status %d, want 404", id, status)
		}
	}
}

func TestRevocations(t *testing.T) {
	until := time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		body     string
		want     Withdrawal
		sessions int
	}{
		{`{"token":"secret-of-alpha"}`, Withdrawal{Revocation: authz.Revocation{TokenHash: authz.NewToken("secret-of-alpha").Hash()}}, 1},
		{`{"token_id":"id-beta","mode":"deny"}`, Withdrawal{Revocation: authz.Revocation{TokenID: "id-beta"}, Deny: true}, 1},
		{`{"subject":"alpha","mode":"evict"}`, Withdrawal{Revocation: authz.Revocation{Subject: "alpha"}}, 1},
		{`{"subject":"nobody"}`, Withdrawal{Revocation: authz.Revocation{Subject: "nobody"}}, 0},
		{`{"subject":"alpha","mode":"deny","until":"2100-01-02T03:04:05Z"}`, Withdrawal{authz.Revocation{Subject: "alpha"}, true, until}, 1},
	} {
		f := newFakeProxy()
		status, body := call(f.handler(), "POST", "/v1/revocations", tt.body)
		want := fmt.Sprintf(`{"entries":3,"sessions":%d}`, tt.sessions)
		if status != 200 || strings.TrimSpace(body) != want || !slices.Equal(f.asked, []Withdrawal{tt.want}) {
			t.Errorf("%s: status %d, %s, asked %+v", tt.body, status, body, f.asked)
		}
		if tt.sessions > 0 && !errors.Is(f.cause, proxy.ErrRevoked) {
			t.Errorf("%s: cause %v", tt.body, f.cause)
		}
		if (f.saved > 0) != tt.want.Deny {
			t.Errorf("%s: saved %d times", tt.body, f.saved)
		}
	}
}

// TestDenialThatFails: the answer says what has taken effect.
func TestDenialThatFails(t *testing.T) {
	const body = `{"subject":"alpha","mode":"deny"}`
	f := newFakeProxy()
	f.full = fmt.Errorf("%w: 100000 are in force", ErrFull)
	if status, answer := call(f.handler(), "POST", "/v1/revocations", body); status != 507 || len(f.clients) != 2 || !strings.Contains(answer, "nothing has changed") {
		t.Errorf("a full list: status %d, %s, %d sessions are left", status, answer, len(f.clients))
	}
	f = newFakeProxy()
	f.save = errors.New("no space left on device")
	if status, answer := call(f.handler(), "POST", "/v1/revocations", body); status != 500 || len(f.clients) != 1 || !strings.Contains(answer, "no space left") {
		t.Errorf("a denial that cannot be saved: status %d, %s, %d sessions are left", status, answer, len(f.clients))
	}
}

// TestBadRevocationsDoNothing: and their errors repeat nothing of the body, which may hold
// a token.
func TestBadRevocationsDoNothing(t *testing.T) {
	for _, body := range []string{
		"", "{}", "[]", "null", `{"token":"sesame","subject":"alpha"}`, `{"tokens":"sesame"}`, `{"token":5,"x":"sesame"}`,
		`{"token":"sesame"} {}`, `{"token":"sesame","mode":"sesame"}`, `{"token":"sesame`,
		`{"subject":"alpha","until":"2100-01-01T00:00:00Z"}`, `{"subject":"alpha","mode":"deny","until":"sesame"}`,
		`{"subject":"alpha","mode":"deny","until":"2020-01-01T00:00:00Z"}`,
		`{"subject":"` + strings.Repeat("x", maxSubject+1) + `"}`, `{"token_id":"` + strings.Repeat("x", maxTokenID+1) + `"}`,
		`{"token":"` + strings.Repeat("sesame", maxBody) + `"}`,
	} {
		f := newFakeProxy()
		status, answer := call(f.handler(), "POST", "/v1/revocations", body)
		if status != 400 || len(f.asked) != 0 || len(f.clients) != 2 || strings.Contains(answer, "sesame") {
			t.Errorf("%.40s: status %d, %s", body, status, answer)
		}
	}
}

func TestCacheStatusAndReload(t *testing.T) {
	f := newFakeProxy()
	h := f.handler()
	if status, body := call(h, "DELETE", "/v1/cache", ""); status != 200 || strings.TrimSpace(body) != `{"entries":7}` {
		t.Errorf("cache: %d %s", status, body)
	}
	if status, body := call(h, "GET", "/v1/status", ""); status != 200 || !strings.HasPrefix(body, `{"version":"test",`) {
		t.Errorf("status: %d %s", status, body)
	}
	if status, _ := call(h, "POST", "/v1/reload", ""); status != 200 {
		t.Errorf("reload: %d", status)
	}
	f.reload = errors.New("tokens.jsonl:3: id: missing")
	if status, body := call(h, "POST", "/v1/reload", ""); status != 422 || !strings.Contains(body, "tokens.jsonl:3") {
		t.Errorf("failed reload: %d %s", status, body)
	}
	if status, _ := call(h, "GET", "/v1/reload", ""); status != 404 && status != 405 {
		t.Errorf("reload by GET: %d", status)
	}
}
