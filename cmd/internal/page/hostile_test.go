package page

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/history"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// elements parses a page and calls do with each element. The page has to be well-formed enough for
// that.
func elements(t *testing.T, body string, do func(xml.StartElement)) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(body))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, body)
		}
		if e, ok := token.(xml.StartElement); ok {
			do(e)
		}
	}
}

// checkMarkup fails the test if a page has markup that it never has by itself, so that a text must
// have become markup.
func checkMarkup(t *testing.T, path, body string) {
	t.Helper()
	elements(t, body, func(e xml.StartElement) {
		name := strings.ToLower(e.Name.Local)
		attributes := make(map[string]string)
		for _, a := range e.Attr {
			attributes[strings.ToLower(a.Name.Local)] = a.Value
		}
		if name == "script" && attributes["src"] != "/assets/page.js" || name == "img" && attributes["src"] != "/assets/icon.svg" || name == "iframe" || name == "style" || name == "object" || name == "base" || name == "evil" {
			t.Errorf("%s has the element %s with %v", path, name, attributes)
		}
		for a, value := range attributes {
			if strings.HasPrefix(a, "on") || a == "style" || a == "srcdoc" {
				t.Errorf("%s has the attribute %s=%q", path, a, value)
			}
			if (a == "href" || a == "action" || a == "src" || a == "data-live") && (!strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "#") || strings.HasPrefix(value, "//")) {
				t.Errorf("%s leads elsewhere: %s=%q", path, a, value)
			}
		}
	})
}

// hostile texts are what a device, an operator or a token service may have named something.
var hostile = []string{
	`<script>alert(1)</script>`, `"><evil onload=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`, `//evil.example/x`,
	`</title></desc></textarea><evil>`, "`<evil>`", `{{.Status}}`, "line\r\n\r\ndata: <evil>", `&lt;evil&gt;&#60;evil>`, `<!--`, `]]><evil>`, "\x00<evil>\x7f\u202e", `%3Cevil%3E`,
}

// hostilePage shows a text everywhere where strangers have a say.
func hostilePage(t *testing.T, text string) *Page {
	f := &fleet{clients: []*proxy.Client{{
		ID: 1, ClientID: text, Listener: text, Server: text, Level: 5, Since: time.Now(), Addr: netip.MustParseAddrPort("192.0.2.1:1"),
		Grant: &authz.Grant{TokenID: text, Subject: text},
	}}}
	kept := refusals.New(100)
	for range 2 {
		kept.Add(proxy.Refusal{Reason: proxy.Reason(authz.Unknown), Err: errors.New(text), Subject: text, ClientID: text, Listener: text, Fingerprint: text, Level: 4})
	}
	return newPage(t, f, func(o *Options) {
		o.API.Tokens = func() ([]admin.NamedStore, error) {
			return []admin.NamedStore{{Name: text, TokenStore: hostileStore(text)}, {Name: "b", TokenStore: hostileStore(text)}}, nil
		}
		o.Listeners = func() []Listener { return []Listener{{Name: text, CA: text}} }
		o.API.Refusals = kept
		o.API.Devices = func(context.Context, presence.Query) (presence.Page, error) {
			return presence.Page{Devices: []presence.Device{{Subject: text, Address: text}}, Next: text}, nil
		}
		o.Telemetry = &memory{
			latest: map[string]payload.Value{text: payload.Text(text), "n" + text: payload.Long(1)}, attributes: map[string]payload.Value{text: payload.Text(text)},
			messages: []payload.Message{{TS: time.Now().UnixMilli(), Fields: []payload.Field{{Key: "n" + text, Value: payload.Long(1)}}}},
		}
		o.API.Status = func() admin.Status {
			now := time.Now()
			return admin.Status{
				Version: text, NotReady: text, Degraded: []string{text}, Sources: []admin.SourceStatus{{Name: text, Host: text, LastError: text}},
				Telemetry: &admin.StoreStatus{Error: text}, Hooks: &admin.HooksStatus{Receiver: text, LastError: text}, Presence: admin.PresenceStatus{Store: text, Error: text},
				TokenFiles: []admin.FileStatus{{Path: text, Error: text, Warnings: []string{text}}}, PasswordFiles: []admin.FileStatus{{Path: text}},
				Certificates: []admin.Certificate{{Listener: text}}, Upstream: []admin.BrokerStatus{{Server: text, State: text, LastError: text, LastFailed: &now}},
				Replicas: &admin.ReplicasStatus{Name: text, Servers: []admin.BusStatus{{Server: text, LastError: text}}},
				Config:   admin.ConfigStatus{Fingerprint: text}, LastReload: &admin.ReloadStatus{By: text, Outcome: text, Error: text},
			}
		}
		for i := range 3 {
			o.History.Add(history.Reading{At: now().Add(time.Duration(i-3) * history.Step), Totals: map[string]float64{SeriesRefused + text: float64(i)}})
		}
	})
}

// hostileStore has one token with that text everywhere.
type hostileStore string

func (s hostileStore) Update(context.Context, bool, tokenfile.Scope, func(*tokenfile.Edit) error) error {
	return errors.New(string(s))
}

func (s hostileStore) Page(context.Context, tokenfile.Query) (tokenfile.Page, error) {
	text := string(s)
	e := tokenfile.Entry{ID: text, Subject: text, Fingerprint: text, Comment: text, Only: authz.Conditions{ClientIDs: []string{text, text}}}
	return tokenfile.Page{Entries: []tokenfile.Entry{e}, Total: 1, Faults: []string{text}}, nil
}

// hostilePaths are the pages that show the text, or get it in their queries.
func hostilePaths(text string) (all []string) {
	q := url.QueryEscape(text)
	return []string{
		"/", "/?range=" + q, "/devices", "/devices?q=" + q, "/devices?sort=" + q, "/devices?page=" + q, "/device?subject=" + q,
		"/refusals", "/refusals?subject=" + q, "/refusals?client_id=" + q, "/refusals?reason=" + q, "/refusals?since=" + q, "/refusals?address=" + q, "/refusals?" + q + "=" + q,
		"/tokens", "/tokens?q=" + q + "&state=" + q, "/tokens?page=" + q, "/tokens?source=" + q, "/token?id=" + q, "/token?id=" + q + "&source=" + q, "/tokens/new?subject=" + q,
		"/tokens/rotate?id=" + q, "/tokens/disable?id=" + q, "/tokens/enable?id=" + q, "/tokens/revoke?id=" + q, "/tokens/extend?id=" + q,
		"/brokers/drain?server=" + q, "/brokers/enable?server=" + q, "/changes", "/devices/seen", "/devices/seen?q=" + q, "/devices/seen?after=" + q + "&show=" + q, "/telemetry", "/telemetry?q=" + q,
		"/telemetry/device?subject=" + q, "/telemetry/device?subject=" + q + "&range=" + q, "/telemetry/device?subject=" + q + "&range=week",
		"/sessions/end?id=1", "/sessions/end?id=" + q, "/sessions/end?subject=" + q, "/tokens/withdraw?token_id=" + q, "/tokens/withdraw?subject=" + q + "&token_id=" + q,
	}
}

func now() time.Time { return time.Now() }

func TestHostileTextsStayTexts(t *testing.T) {
	for _, text := range hostile {
		h := handler(hostilePage(t, text))
		for _, path := range hostilePaths(text) {
			w := get(h, path)
			if w.Code >= 500 {
				t.Errorf("GET %s: status %d", path, w.Code)
			}
			checkMarkup(t, path, w.Body.String())
		}
		checkMarkup(t, "/changes", get(h, "/changes").Body.String())
		form := url.Values{"id": {text}, "subject": {text}, "source": {text}, "mode": {text}, "clientid": {text}, "comment": {text}}.Encode()
		for _, path := range []string{"/tokens/new", "/tokens/rotate", "/tokens/disable", "/tokens/revoke", "/tokens/withdraw", "/sessions/end"} {
			w := post(h, path, form)
			if w.Code >= 500 {
				t.Errorf("POST %s: status %d", path, w.Code)
			}
			checkMarkup(t, path, w.Body.String())
			if next := w.Header().Get("Location"); next != "" && !strings.HasPrefix(next, "/d") {
				t.Errorf("POST %s leads to %s", path, next)
			}
		}
	}
}

// TestHostileTextsDoNotEndAnEvent: a line of a text must not become a line of the stream.
func TestHostileTextsDoNotEndAnEvent(t *testing.T) {
	for line := range strings.Lines(string(event([]byte("a\r\n\r\nevent: evil\rdata: b\n\nid: 1")))) {
		if line != "\n" && !strings.HasPrefix(line, "data: ") || strings.Contains(line, "\r") {
			t.Errorf("the stream has the line %q", line)
		}
	}
}
