package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// audited serves f with an Audit.
func (f *fakeProxy) audited() (*API, http.Handler) {
	api := f.api()
	api.Audit = new(Audit)
	return api, newHandler(Options{Access: testAccess, PushSecret: fixed(testSecret), API: api})
}

// TestEveryChangeIsRecorded: each route that changes something says in the record who did what to
// which object, and with which outcome. A token that was sent to be revoked is not in it.
func TestEveryChangeIsRecorded(t *testing.T) {
	f := newFakeProxy()
	api, h := f.audited()
	api.Reload = func(ctx context.Context) error {
		api.Audit.Record(ctx, "reload", "", "applied")
		return nil
	}
	do := func(method, path, body, token string) {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	do("DELETE", "/v1/sessions/1", "", testToken)
	do("DELETE", "/v1/sessions/99", "", testToken) // does not exist
	do("DELETE", "/v1/sessions?subject=beta", "", testToken)
	do("POST", "/v1/revocations", `{"token":"a-token-of-a-device"}`, testToken)
	do("POST", "/v1/revocations", `{"token_id":"id-7","mode":"deny"}`, testToken)
	f.full = errors.New("there is no room")
	do("POST", "/v1/revocations", `{"subject":"gamma","mode":"deny"}`, testToken)
	do("DELETE", "/v1/cache", "", testToken)
	do("POST", "/v1/reload", "", testToken)
	do("DELETE", "/v1/cache", "", testTokens[Read]) // may not
	do("DELETE", "/v1/cache", "", "a-wrong-token-of-nobody")
	b := newBrowser(t, h)
	b.signIn(testTokens[Read])
	b.do("POST", "/sign-out", url.Values{})

	r := httptest.NewRequest("GET", "/v1/audit", nil)
	r.Header.Set("Authorization", "Bearer "+testToken)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var got Changes
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	at := "192.0.2.1"
	want := []Change{
		{By: "read", Address: "127.0.0.1", Action: "sign out", Outcome: "the cookie no longer counts"},
		{By: "read", Address: "127.0.0.1", Action: "sign in", Outcome: "for 12h0m0s"},
		{By: "operate", Address: at, Action: "reload", Outcome: "applied"},
		{By: "operate", Address: at, Action: "clear caches", Outcome: "7 remembered answers are forgotten"},
		{By: "operate", Address: at, Action: "deny", Object: "gamma", Outcome: "failed: nothing has changed: there is no room"},
		{By: "operate", Address: at, Action: "deny", Object: "token id id-7", Outcome: "3 remembered answers are forgotten, 0 sessions have ended"},
		{By: "operate", Address: at, Action: "revoke", Object: "token " + authz.FingerprintOf(authz.NewToken("a-token-of-a-device").Hash()), Outcome: "3 remembered answers are forgotten, 0 sessions have ended"},
		{By: "operate", Address: at, Action: "end sessions", Object: "beta", Outcome: "1 have ended"},
		{By: "operate", Address: at, Action: "end session", Object: "alpha", Outcome: "session 1 has ended"},
	}
	if diff := cmp.Diff(want, got.Changes, cmpopts.IgnoreFields(Change{}, "Time")); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if strings.Contains(w.Body.String(), "a-token-of-a-device") {
		t.Error("the record has a token")
	}
}

// TestPushesAreNotKept: a token service may push many revocations, which must not displace what
// operators have done. They are logged.
func TestPushesAreNotKept(t *testing.T) {
	f := newFakeProxy()
	api, h := f.audited()
	var logged []Change
	api.Audit.Logged = func(c Change) { logged = append(logged, c) }
	now, body := fmt.Sprint(time.Now().Unix()), `{"subject":"alpha"}`
	if status := push(h, now, sign(testSecret, now, body), body); status != 200 {
		t.Fatalf("status %d", status)
	}
	if len(logged) != 1 || logged[0].By != "push" || logged[0].Object != "alpha" || len(api.Audit.Latest(10)) != 0 {
		t.Errorf("logged %+v, kept %+v", logged, api.Audit.Latest(10))
	}
}

// TestReadersDisplaceNothing: the role read can sign in as often as it likes, which must neither
// displace what operators have done, nor sign them out.
func TestReadersDisplaceNothing(t *testing.T) {
	api, h := newFakeProxy().audited()
	operator := newBrowser(t, h)
	operator.signIn(testTokens[Operate])
	api.ClearCaches(By(t.Context(), "operate"))
	reader := newBrowser(t, h)
	for range maxChanges + maxSignIns {
		reader.signIn(testTokens[Read])
	}
	kept := api.Audit.Latest(maxLimit)
	if len(kept) != 2+maxFrequent || kept[maxFrequent].Action != "clear caches" || kept[maxFrequent+1].By != "operate" {
		t.Errorf("%d changes are kept, the oldest is %+v", len(kept), kept[len(kept)-1])
	}
	if status := operator.do("GET", "/v1/audit", nil).StatusCode; status != 200 {
		t.Errorf("the operator is signed out: status %d", status)
	}
}

// TestCallsDisplaceOnlyCalls: a program that calls devices often must not displace what operators
// have done.
func TestCallsDisplaceOnlyCalls(t *testing.T) {
	var a Audit
	ctx := By(t.Context(), "operate")
	a.Record(ctx, "reload", "", "applied")
	for i := range maxChanges {
		a.RecordCall(ctx, "d", fmt.Sprint(i))
	}
	kept := a.Latest(maxChanges)
	if len(kept) != 1+maxFrequent || kept[maxFrequent].Action != "reload" || kept[0].Outcome != fmt.Sprint(maxChanges-1) {
		t.Errorf("%d changes are kept, the oldest is %+v, the newest %+v", len(kept), kept[len(kept)-1], kept[0])
	}
}

func TestRecordIsBounded(t *testing.T) {
	var a Audit
	ctx := By(t.Context(), "signal")
	for i := range maxChanges + 10 {
		a.Record(ctx, "reload", fmt.Sprint(i), strings.Repeat("ä", 10_000))
	}
	last := a.Latest(maxLimit)
	if len(last) != maxChanges || last[0].Object != fmt.Sprint(maxChanges+9) || last[maxChanges-1].Object != "10" {
		t.Fatalf("%d changes, from %s to %s", len(last), last[0].Object, last[len(last)-1].Object)
	}
	if c := last[0]; len(c.Outcome) > maxChangeText || !strings.HasSuffix(c.Outcome, "...") || c.By != "signal" || c.Address != "" {
		t.Errorf("change %+v", c)
	}
	if two := a.Latest(2); len(two) != 2 || two[1].Object != fmt.Sprint(maxChanges+8) {
		t.Errorf("the last two are %+v", two)
	}
}
