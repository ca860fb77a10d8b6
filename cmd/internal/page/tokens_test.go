package page

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// tokenID returns the id of the first token of a device in the list.
func tokenID(t *testing.T, h http.Handler, subject string) (id string) {
	t.Helper()
	elements(t, get(h, "/tokens?q="+subject).Body.String(), func(e xml.StartElement) {
		for _, a := range e.Attr {
			if u, err := url.Parse(a.Value); err == nil && u.Path == "/token" && id == "" {
				id = u.Query().Get("id")
			}
		}
	})
	if id == "" {
		t.Fatalf("%s has no token in the list", subject)
	}
	return id
}

func TestTokenIsCreatedAndShownOnce(t *testing.T) {
	h := handler(newPage(t, newFleet(0), withTokens(t, 3)))
	w := post(h, "/tokens/new", url.Values{"subject": {" meter 9 "}, "expires": {"24h"}, "clientid": {"a b*"}, "kind": {"gateway"}, "comment": {"hall"}}.Encode())
	_, token, _ := strings.Cut(w.Body.String(), `id="secret">`)
	token, _, _ = strings.Cut(token, "<")
	if w.Code != 200 || !tokenfile.WellFormed(token) || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, %s\n%s", w.Code, w.Header(), w.Body)
	}
	for _, want := range []string{
		"-h localhost -p 1883 -t v1/devices/me/telemetry -u " + token + " -m &#39;{&#34;temperature&#34;:25}&#39;", "mosquitto_pub --cafile ca-root.pem -d -q 1 -h localhost -p 8883", "It expires at ",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the page does not have %q:\n%s", want, w.Body)
		}
	}
	page := get(h, "/token?id="+url.QueryEscape(tokenID(t, h, "meter"))).Body.String()
	for _, want := range []string{">meter 9<", ">hall<", "a, b*", "in 23 h", ">good<", "<dt>Gateway</dt>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of the token does not have %q:\n%s", want, page)
		}
	}
	if all := page + get(h, "/tokens").Body.String(); strings.Contains(all, token) {
		t.Error("the token is shown again")
	}
	w = post(h, "/tokens/new", url.Values{"subject": {"dashboard"}, "expires": {"24h"}, "kind": {"reader"}}.Encode())
	if w.Code != 200 || !strings.Contains(w.Body.String(), "mosquitto_sub -d -q 1 -h localhost -p 1883 -t v1/devices/&#43;/telemetry -u ") || strings.Contains(w.Body.String(), "mosquitto_pub") {
		t.Errorf("a reader: status %d\n%s", w.Code, w.Body)
	}
	if page := get(h, "/token?id="+url.QueryEscape(tokenID(t, h, "dashboard"))).Body.String(); !strings.Contains(page, "<dt>Reader</dt>") {
		t.Errorf("the page of the token does not name the role:\n%s", page)
	}
	if w := post(h, "/tokens/new", "subject=x&expires=24h&kind=admin"); w.Code != 400 {
		t.Errorf("unknown kind: status %d\n%s", w.Code, w.Body)
	}
	if w := post(h, "/tokens/new", "subject="); w.Code != 422 || !strings.Contains(w.Body.String(), "the name") {
		t.Errorf("without a name: status %d\n%s", w.Code, w.Body)
	}
}

func TestTokenIsChangedAfterConfirmation(t *testing.T) {
	h := handler(newPage(t, newFleet(0), withTokens(t, 10)))
	id := tokenID(t, h, "pump-00003")
	state := func() string {
		body := get(h, "/token?id="+id).Body.String()
		_, text, _ := strings.Cut(body, `<span class="state `)
		_, text, _ = strings.Cut(text, ">")
		text, _, _ = strings.Cut(text, "<")
		return text
	}
	for _, step := range []struct{ path, form, want string }{
		{"/tokens/disable", "", "disabled"}, {"/tokens/enable", "", "good"}, {"/tokens/extend", "&expires=24h", "good"},
	} {
		before := state()
		if w := get(h, step.path+"?id="+id); w.Code != 200 || !strings.Contains(w.Body.String(), id) || state() != before {
			t.Errorf("GET %s: status %d, the token is %s\n%s", step.path, w.Code, state(), w.Body)
		}
		if w := post(h, step.path, "id="+id+step.form); w.Code != 303 || !strings.HasPrefix(w.Header().Get("Location"), "/token?id=") || state() != step.want {
			t.Errorf("POST %s: status %d to %s, the token is %s", step.path, w.Code, w.Header().Get("Location"), state())
		}
	}
	if body := get(h, "/token?id="+id).Body.String(); !strings.Contains(body, "in 23 h") {
		t.Errorf("the expiry has not changed:\n%s", body)
	}
	w := post(h, "/tokens/rotate", "id="+id+"&overlap=24h")
	_, token, _ := strings.Cut(w.Body.String(), `id="secret">`)
	if token, _, _ = strings.Cut(token, "<"); w.Code != 200 || !tokenfile.WellFormed(token) {
		t.Errorf("rotate: status %d\n%s", w.Code, w.Body)
	}
	if list := get(h, "/tokens?q=pump-00003").Body.String(); !strings.Contains(list, "2 tokens") {
		t.Errorf("after the rotation with an overlap:\n%s", list)
	}
	if w := post(h, "/tokens/revoke", "id="+id); w.Code != 303 {
		t.Errorf("revoke: status %d\n%s", w.Code, w.Body)
	}
	if w := get(h, "/token?id="+id); w.Code != 404 {
		t.Errorf("after it was revoked: status %d", w.Code)
	}
	if list := get(h, "/tokens?state=disabled").Body.String(); !strings.Contains(list, "1 token ") || !strings.Contains(list, "pump-00007") {
		t.Errorf("disabled tokens:\n%s", list)
	}
	if body := get(h, "/device?subject=pump-00007").Body.String(); !strings.Contains(body, ">disabled<") || !strings.Contains(body, "/token?id=pump-00007-") {
		t.Errorf("the page of the device does not show its token:\n%s", body)
	}
}

// TestWithoutSourcesThatCanBeChangedThereAreNoTokens: they come from a service, for example.
func TestWithoutSourcesThatCanBeChangedThereAreNoTokens(t *testing.T) {
	h := handler(newPage(t, newFleet(1), func(o *Options) { o.API.Tokens = func() ([]admin.NamedStore, error) { return nil, nil } }))
	for _, path := range []string{"/", "/device?subject=pump-00000"} {
		if w := get(h, path); w.Code != 200 || strings.Contains(w.Body.String(), `href="/tokens"`) || strings.Contains(w.Body.String(), "/tokens/new") {
			t.Errorf("%s: status %d, or it leads to tokens", path, w.Code)
		}
	}
	if w := get(h, "/tokens"); w.Code != 404 || !strings.Contains(w.Body.String(), "can be changed") {
		t.Errorf("status %d\n%s", w.Code, w.Body)
	}
}

// TestOneTokenIsChangedAlone: a token may be called as its device, or as another one, whose tokens
// stay. Its name may be a pattern for others.
func TestOneTokenIsChangedAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	text := `{"format":"mqtt-auth-tokens/1"}` + "\n"
	for i := range 60 {
		text += fmt.Sprintf(`{"id":"pump-%02d","subject":"pump-%02d-x","token_hash":"sha256:%064x"}`+"\n", i, i, i+1)
	}
	for i, names := range [][2]string{{"pump", "pump"}, {"pump-new", "pump"}, {"other", "pump-??"}, {"pump-??", "other"}} {
		text += fmt.Sprintf(`{"id":%q,"subject":%q,"token_hash":"sha256:%064x"}`+"\n", names[0], names[1], i+100)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := handler(newPage(t, newFleet(0), func(o *Options) {
		o.API.Tokens = func() ([]admin.NamedStore, error) {
			return []admin.NamedStore{{Name: "file0", TokenStore: fileStore(path)}}, nil
		}
	}))
	for _, id := range []string{"pump", "pump-??"} {
		if w := post(h, "/tokens/disable", url.Values{"source": {"file0"}, "id": {id}}.Encode()); w.Code != http.StatusSeeOther {
			t.Fatalf("disable %s: status %d: %s", id, w.Code, w.Body)
		}
	}
	all, err := tokenfile.List(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if want := e.ID == "pump" || e.ID == "pump-??"; e.Disabled != want {
			t.Errorf("the token %s of %s: disabled is %v", e.ID, e.Subject, e.Disabled)
		}
	}
	page := get(h, "/device?subject="+url.QueryEscape("pump-??")).Body.String()
	if !strings.Contains(page, ">other</a>") || strings.Contains(page, "pump-01") {
		t.Errorf("the page of the device pump-?? has the tokens\n%s", page)
	}
}
