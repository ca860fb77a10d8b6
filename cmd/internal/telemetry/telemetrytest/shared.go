package telemetrytest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// scoped shows the attributes of a device in a scope like attributes.
func (f *fixture) scoped(device string, scope telemetry.Scope, keys ...string) string {
	f.Helper()
	list, err := telemetry.Attributes(f.Context(), f.Store, device, scope, keys...)
	if err != nil {
		f.Fatal(err)
	}
	var parts []string
	for _, a := range list {
		parts = append(parts, a.Key+"="+show(a.Point))
	}
	return strings.Join(parts, " ")
}

// setIn sets the long values of one attribute.
func (f *fixture) setIn(device string, scope telemetry.Scope, ts int64, key string, n int64) {
	f.Helper()
	if err := f.Store.SetAttributes(f.Context(), device, scope, ts, []payload.Field{{Key: key, Value: payload.Long(n)}}); err != nil {
		f.Errorf("%s of %s in %s: %v", key, device, scope, err)
	}
}

// checkScopes: the same key may be in both scopes, and each scope has a bound of its own.
func checkScopes(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.setIn("d", telemetry.ClientScope, 1, "a", 1)
	f.setIn("d", telemetry.SharedScope, 2, "a", 2)
	f.setIn("d", telemetry.SharedScope, 3, "b", 3)
	f.setIn("d", telemetry.SharedScope, 4, "a", 4)
	for range 2 {
		f.check("client", f.scoped("d", telemetry.ClientScope), `a=1@1`)
		f.check("shared", f.scoped("d", telemetry.SharedScope), `a=4@4 b=3@3`)
		f.check("some", f.scoped("d", telemetry.SharedScope, "b", "nope"), `b=3@3`)
		f.check("another device", f.scoped("e", telemetry.SharedScope), ``)
		f.reopen()
	}
	const most = telemetry.MaxAttributes
	for _, scope := range []telemetry.Scope{telemetry.ClientScope, telemetry.SharedScope} {
		if err := f.Store.SetAttributes(t.Context(), "full", scope, 1, numbered(0, most)); err != nil {
			t.Errorf("%s: %v", scope, err)
		}
		f.refused("one more in "+string(scope), f.Store.SetAttributes(t.Context(), "full", scope, 1, numbered(most, most+1)))
	}
	if err := f.Store.DeleteAttributes(t.Context(), "full", telemetry.SharedScope, []string{"0"}); err != nil {
		t.Error(err)
	}
	f.setIn("full", telemetry.SharedScope, 1, "there is room again", 1)
}

func checkDeletion(t *testing.T, s Suite) {
	f := s.open(t, 0)
	for _, device := range []string{"d", "e"} {
		for _, scope := range []telemetry.Scope{telemetry.ClientScope, telemetry.SharedScope} {
			f.setIn(device, scope, 1, "a", 1)
			f.setIn(device, scope, 1, "b", 1)
		}
	}
	for _, keys := range [][]string{{"a", "nope", "a"}, {"nope"}, nil, {"\x00"}, {"\xff"}} {
		if err := f.Store.DeleteAttributes(t.Context(), "d", telemetry.SharedScope, keys); err != nil {
			t.Errorf("delete %q: %v", keys, err)
		}
	}
	f.reopen()
	f.check("shared", f.scoped("d", telemetry.SharedScope), `b=1@1`)
	f.check("client", f.scoped("d", telemetry.ClientScope), `a=1@1 b=1@1`)
	f.check("another device", f.scoped("e", telemetry.SharedScope), `a=1@1 b=1@1`)
	if err := f.Store.DeleteAttributes(t.Context(), "", telemetry.SharedScope, []string{"a"}); err == nil {
		t.Error("a device without a name: accepted")
	}
}

// checkShared: what operators set is stored, sent to the device and recorded, in this order, and
// devices find it.
func checkShared(t *testing.T, s Suite) {
	f := s.open(t, 0)
	var log []string
	shared := &telemetry.Changes{
		Store: f.Store,
		Push:  func(device string, change []byte) { log = append(log, fmt.Sprintf("push to %s: %s", device, change)) },
		Record: func(_ context.Context, action, device, outcome string) {
			log = append(log, fmt.Sprintf("%s of %s: %s", action, device, outcome))
		},
	}
	var announced []string
	shared.Announce = func(device string, keys []string) {
		announced = append(announced, device+" "+strings.Join(keys, ","))
	}
	h := telemetry.Handler(f.Store, shared)
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string
		log                []string
	}{
		{"POST", "a%2Fb/SHARED_SCOPE", `{"interval": 30, "text": "1.10", "gone": null}`, 200, "", []string{`push to a/b: {"interval":30,"text":"1.10"}`, "set shared attributes of a/b: 2 keys"}},
		{"POST", "a%2Fb/attributes/SHARED_SCOPE", `{"deep":{"n":[1.50]}}`, 200, "", []string{`push to a/b: {"deep":{"n":[1.50]}}`, "set shared attributes of a/b: 1 keys"}},
		{"GET", "a%2Fb/keys/attributes/SHARED_SCOPE", "", 200, `["deep","interval","text"]`, nil},
		{"GET", "a%2Fb/keys/attributes/CLIENT_SCOPE", "", 200, `[]`, nil},
		{"GET", "a%2Fb/keys/attributes", "", 200, `["deep","interval","text"]`, nil},
		{"DELETE", "a%2Fb/SHARED_SCOPE?keys=interval,nope&key=text", "", 200, "", []string{`push to a/b: {"deleted":["text","interval","nope"]}`, "delete shared attributes of a/b: 3 keys"}},
		{"GET", "a%2Fb/keys/attributes/SHARED_SCOPE", "", 200, `["deep"]`, nil},
		{"DELETE", "a%2Fb/CLIENT_SCOPE?keys=x", "", 200, "", []string{"delete client attributes of a/b: 1 keys"}},
		{"POST", "d/SHARED_SCOPE", `{interval: 30}`, 400, "", nil},
		{"POST", "d/SHARED_SCOPE", `[]`, 400, "", nil},
		{"POST", "d/SHARED_SCOPE", `{"a":null}`, 400, "", nil},
		{"POST", "d/SHARED_SCOPE", `{"a":"` + strings.Repeat("x", telemetry.MaxPayload) + `"}`, 413, "", nil},
		{"POST", "d/CLIENT_SCOPE", `{"a":1}`, 400, "", nil},
		{"POST", "d/SERVER_SCOPE", `{"a":1}`, 404, "", nil},
		{"DELETE", "d/SHARED_SCOPE", "", 400, "", nil},
		{"DELETE", "d/SHARED_SCOPE?keys=%zz", "", 400, "", nil},
		{"DELETE", "a%2Fb/SHARED_SCOPE?keys=deep&scope=CLIENT_SCOPE", "", 400, "", nil},
		{"GET", "a%2Fb/keys/attributes/SHARED_SCOPE", "", 200, `["deep"]`, nil},
		{"PUT", "d/SHARED_SCOPE", `{"a":1}`, 405, "", nil},
	} {
		log = nil
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, "/api/plugins/telemetry/DEVICE/"+c.path, strings.NewReader(c.body)))
		answer := strings.TrimSuffix(w.Body.String(), "\n")
		if w.Code != c.status || c.status == http.StatusOK && answer != c.answer || !slices.Equal(log, c.log) {
			t.Errorf("%s %s %.40s: status %d, answer %.200s, log %q", c.method, c.path, c.body, w.Code, answer, log)
		}
	}
	if want := []string{"a/b interval,text", "a/b deep", "a/b text,interval,nope"}; !slices.Equal(announced, want) {
		t.Errorf("announced %q, want %q", announced, want)
	}
	log = nil
	if err := shared.RepeatShared(t.Context(), "a/b", []string{"text", "deep", "nope"}); err != nil || !slices.Equal(log, []string{`push to a/b: {"deep":{"n":[1.50]}}`, `push to a/b: {"deleted":["text","nope"]}`}) {
		t.Errorf("what another proxy has changed: %q, error %v", log, err)
	}
	f.setIn("a/b", telemetry.ClientScope, 1, "mine", 1)
	answer, err := (&telemetry.Requests{Store: f.Store}).Attributes(t.Context(), "a/b", []byte(`{"clientKeys":"mine","sharedKeys":"deep,interval"}`))
	if err != nil || !sameJSON(t, string(answer), `{"client":{"mine":1},"shared":{"deep":{"n":[1.50]}}}`) {
		t.Errorf("answer %s, error %v", answer, err)
	}
	if answer, err := (&telemetry.Requests{Store: f.Store}).Attributes(t.Context(), "a/b", []byte(`{"sharedKeys":""}`)); err != nil || string(answer) != `{"shared":{"deep":{"n":[1.50]}}}` {
		t.Errorf("answer %s, error %v", answer, err)
	}
	if err := f.Store.Close(); err != nil {
		t.Fatal(err)
	}
	log = nil
	if err := shared.SetShared(t.Context(), "d", []byte(`{"a":1}`)); err == nil || len(log) != 1 || !strings.HasPrefix(log[0], "set shared attributes of d: failed: ") {
		t.Errorf("with a closed store: error %v, log %q", err, log)
	}
}
