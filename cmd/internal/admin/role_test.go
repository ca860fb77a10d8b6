package admin

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
)

// testTokens has a token for each role.
var testTokens = Tokens{Operate: testToken, Read: "a-read-token-for-tests", Metrics: "a-metrics-token-for-tests"}

func testAccess() *Access { return &Access{Tokens: testTokens, Address: "127.0.0.1:9883"} }

// allParts has every part of the admin side, so that every route exists.
func allParts() Options {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })
	api := newFakeProxy().api()
	api.Refusals, api.Audit = refusals.New(1), new(Audit)
	api.Devices = func(context.Context, presence.Query) (presence.Page, error) { return presence.Page{}, nil }
	return Options{
		Access: testAccess, Ready: func() error { return nil }, Metrics: served, Telemetry: served, RPC: served,
		PushSecret: fixed(testSecret), API: api, Page: []Route{{"/{$}", Read, served}},
	}
}

// TestEachRoleHasItsRoutes asks every route with every token. A route that is new fails until it
// is listed here with the role that it is meant for.
func TestEachRoleHasItsRoutes(t *testing.T) {
	want := map[string]Role{
		"GET /livez": Everyone, "GET /readyz": Everyone,
		"POST /v1/push": Everyone, // signed
		"POST /sign-in": Everyone, "POST /sign-out": Everyone,
		"GET /metrics": Metrics, "/": Metrics,
		"/{$}": Read, "GET /v1/status": Read, "GET /v1/sessions": Read, "GET /v1/devices": Read, "GET /v1/refusals": Read, "GET /v1/tokens": Read, "/api/plugins/telemetry/": Read,
		"/api/rpc/": Operate, "/api/plugins/rpc/": Operate,
		"DELETE /v1/sessions/{id}": Operate, "DELETE /v1/sessions": Operate, "POST /v1/revocations": Operate,
		"DELETE /v1/cache": Operate, "POST /v1/reload": Operate, "POST /v1/brokers/drain": Operate, "POST /v1/brokers/enable": Operate, "GET /v1/audit": Operate, "POST /v1/tokens": Operate, "POST /v1/tokens/rotate": Operate, "POST /v1/tokens/{change}": Operate,
		"GET /debug/pprof/": Operate, "GET /debug/pprof/cmdline": Operate, "GET /debug/pprof/profile": Operate,
		"GET /debug/pprof/symbol": Operate, "GET /debug/pprof/trace": Operate,
	}
	o := allParts()
	found := map[string]bool{}
	for _, route := range slices.Concat(o.routes(), o.pages(new(gate))) {
		found[route.Pattern] = true
	}
	for _, pattern := range slices.Sorted(maps.Keys(found)) {
		if want[pattern] == 0 {
			t.Errorf("%s is a route without a role in this test", pattern)
		}
	}
	h := newHandler(o)
	for pattern, need := range want {
		if !found[pattern] {
			t.Errorf("there is no route %s", pattern)
		}
		for role, token := range map[Role]string{Everyone: "", Metrics: testTokens[Metrics], Read: testTokens[Read], Operate: testTokens[Operate]} {
			got := askRoute(t, h, pattern, token)
			switch {
			case role >= need && pattern == "POST /sign-in", pattern == "POST /v1/push": // refuse an empty token and an empty signature themselves
			case role >= need && (got == 401 || got == 403):
				t.Errorf("%s with the role %v: status %d", pattern, role, got)
			case role < need && role == Everyone && got != 401, role < need && role != Everyone && got != 403:
				t.Errorf("%s with the role %v: status %d, want it refused", pattern, role, got)
			}
		}
	}
}

// askRoute sends a request that matches a pattern.
func askRoute(t *testing.T, h http.Handler, pattern, token string) int {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = http.MethodGet, pattern
	}
	path = strings.NewReplacer("{$}", "", "{id}", "1").Replace(path)
	switch pattern {
	case "DELETE /v1/sessions":
		path += "?subject=a"
	case "GET /debug/pprof/profile", "GET /debug/pprof/trace":
		path += "?seconds=x" // 400, and not a profile of half a minute
	case "/":
		path = "/no/such/path"
	}
	r := httptest.NewRequest(method, path, strings.NewReader(`{"subject":"a"}`)).WithContext(t.Context())
	r.Host = "127.0.0.1:9883"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// TestOnlyOperatorsChangeAnything: whatever role a route has, a method that may change something
// needs the role operate, and so does a route that names no role.
func TestOnlyOperatorsChangeAnything(t *testing.T) {
	served := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	h := newHandler(Options{Access: testAccess, Telemetry: served, Page: []Route{{"/page", Read, served}, {"GET /nameless", 0, served}}})
	for pattern, want := range map[string]int{
		"GET /page": 200, "HEAD /page": 200, "POST /page": 403, "PUT /page": 403, "DELETE /page": 403, "PATCH /page": 403, "PROPFIND /page": 403,
		"GET /nameless": 403,
		"GET /api/plugins/telemetry/DEVICE/d/values/timeseries/history": 200, "DELETE /api/plugins/telemetry/DEVICE/d/timeseries/delete": 403,
		"POST /api/plugins/telemetry/DEVICE/d/SHARED_SCOPE": 403, "DELETE /api/plugins/telemetry/DEVICE/d/CLIENT_SCOPE": 403,
	} {
		if got := askRoute(t, h, pattern, testTokens[Read]); got != want {
			t.Errorf("%s with the role read: status %d, want %d", pattern, got, want)
		}
		if got := askRoute(t, h, pattern, testTokens[Operate]); got != 200 {
			t.Errorf("%s with the role operate: status %d", pattern, got)
		}
	}
}

// TestRequesterIsKnown: handlers find out who asks, and when the token is no longer in force.
func TestRequesterIsKnown(t *testing.T) {
	tokens := maps.Clone(testTokens)
	var got Requester
	h := newHandler(Options{
		Access: func() *Access { return &Access{Tokens: tokens} },
		Page:   []Route{{"GET /who", Read, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = RequesterOf(r.Context()) })}},
	})
	if askRoute(t, h, "GET /who", tokens[Read]); got.Role != Read || got.Name != "read" || got.Address != "192.0.2.1" || !got.Current() {
		t.Errorf("requester %+v, current %v", got, got.Current())
	}
	tokens[Read] = "another-read-token-for-tests"
	if got.Current() {
		t.Error("the token of the requester is no longer in force, and Current is true")
	}
	if q := RequesterOf(t.Context()); q.Role != 0 || q.Current() {
		t.Errorf("without a request the requester is %+v", q)
	}
}
