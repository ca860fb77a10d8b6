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

// fakeProxy has two sessions and notes what is done to them.
type fakeProxy struct {
	clients []*proxy.Client
	cause   error
	forgot  []authz.Revocation
	denied  bool
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
	return newHandler(Options{Token: fixed(testToken), PushSecret: fixed(testSecret), API: &API{
		Status:   func() any { return map[string]string{"version": "test"} },
		Sessions: f.sessions,
		Kick: func(match func(*proxy.Client) bool, cause error) int {
			before := len(f.clients)
			f.clients, f.cause = slices.DeleteFunc(f.clients, match), cause
			return before - len(f.clients)
		},
		Forget: func(r authz.Revocation, deny bool) (int, error) {
			f.forgot, f.denied = append(f.forgot, r), deny
			return 3, nil
		},
		Purge:  func() int { return 7 },
		Reload: func(context.Context) error { return f.reload },
	}})
}

// sessions are those of f, the first of them idle.
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
	for _, bad := range []string{"0", "-1", "x", "10001"} {
		if status, _ := call(h, "GET", "/v1/sessions?limit="+bad, ""); status != 400 {
			t.Errorf("limit %s: status %d", bad, status)
		}
	}
}

func TestSessionSaysWhoItIsAndNoSecret(t *testing.T) {
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
	for _, tt := range []struct {
		body     string
		want     authz.Revocation
		deny     bool
		sessions int
	}{
		{`{"token":"secret-of-alpha"}`, authz.Revocation{TokenHash: authz.NewToken("secret-of-alpha").Hash()}, false, 1},
		{`{"token_id":"id-beta","mode":"deny"}`, authz.Revocation{TokenID: "id-beta"}, true, 1},
		{`{"subject":"alpha","mode":"evict"}`, authz.Revocation{Subject: "alpha"}, false, 1},
		{`{"subject":"nobody"}`, authz.Revocation{Subject: "nobody"}, false, 0},
	} {
		f := newFakeProxy()
		status, body := call(f.handler(), "POST", "/v1/revocations", tt.body)
		want := fmt.Sprintf(`{"entries":3,"sessions":%d}`, tt.sessions)
		if status != 200 || strings.TrimSpace(body) != want || !slices.Equal(f.forgot, []authz.Revocation{tt.want}) || f.denied != tt.deny {
			t.Errorf("%s: status %d, %s, forgot %+v, deny %v", tt.body, status, body, f.forgot, f.denied)
		}
		if tt.sessions > 0 && !errors.Is(f.cause, proxy.ErrRevoked) {
			t.Errorf("%s: cause %v", tt.body, f.cause)
		}
	}
}

// TestBadRevocationsDoNothing, and their errors repeat nothing of a body that may
// hold a token.
func TestBadRevocationsDoNothing(t *testing.T) {
	for _, body := range []string{
		"", "{}", "[]", "null", `{"token":"sesame","subject":"alpha"}`, `{"tokens":"sesame"}`, `{"token":5,"x":"sesame"}`,
		`{"token":"sesame"} {}`, `{"token":"sesame","mode":"sesame"}`, `{"token":"sesame`, `{"token":"` + strings.Repeat("sesame", maxBody) + `"}`,
	} {
		f := newFakeProxy()
		status, answer := call(f.handler(), "POST", "/v1/revocations", body)
		if status != 400 || len(f.forgot) != 0 || len(f.clients) != 2 || strings.Contains(answer, "sesame") {
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
	if status, body := call(h, "GET", "/v1/status", ""); status != 200 || strings.TrimSpace(body) != `{"version":"test"}` {
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
