package page

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
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
				Telemetry: &admin.StoreStatus{Error: text}, Presence: admin.PresenceStatus{Store: text, Error: text},
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

func (s hostileStore) Each(_ context.Context, _ tokenfile.Scope, do func(tokenfile.Entry, []byte) error) error {
	text := string(s)
	return do(tokenfile.Entry{ID: text, Subject: text, Fingerprint: text, Comment: text, Only: authz.Conditions{ClientIDs: []string{text, text}}}, nil)
}

// hostilePaths are the pages that show the text, or get it in their queries.
func hostilePaths(text string) (all []string) {
	q := url.QueryEscape(text)
	return []string{
		"/", "/?range=" + q, "/devices", "/devices?q=" + q, "/devices?sort=" + q, "/devices?page=" + q, "/device?subject=" + q,
		"/refusals", "/refusals?subject=" + q, "/refusals?client_id=" + q, "/refusals?reason=" + q, "/refusals?since=" + q, "/refusals?address=" + q, "/refusals?" + q + "=" + q,
		"/tokens", "/tokens?q=" + q + "&state=" + q, "/tokens?page=" + q, "/tokens?source=" + q, "/token?id=" + q, "/token?id=" + q + "&source=" + q, "/tokens/new?subject=" + q,
		"/tokens/rotate?id=" + q, "/tokens/disable?id=" + q, "/tokens/enable?id=" + q, "/tokens/revoke?id=" + q, "/tokens/extend?id=" + q,
		"/changes", "/devices/seen", "/devices/seen?q=" + q, "/devices/seen?after=" + q + "&show=" + q, "/telemetry", "/telemetry?q=" + q,
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

// TestEveryPageIsAccessible: each field has a label, each picture a text, each page one heading and
// a language.
func TestEveryPageIsAccessible(t *testing.T) {
	h := handler(newPage(t, newFleet(60), withTokens(t, 60), func(o *Options) { o.History = fakeHistory(60) }))
	id := tokenID(t, h, "pump-00001")
	for _, path := range []string{"/", "/devices", "/devices/seen", "/device?subject=pump-00001", "/refusals", "/telemetry", "/telemetry/device?subject=x", "/changes", "/tokens", "/token?id=" + id, "/tokens/new", "/tokens/rotate?id=" + id, "/tokens/extend?id=" + id, "/sessions/end?id=1", "/tokens/withdraw?subject=pump-00001", "/device"} {
		body := get(h, path).Body.String()
		headings, labels, language := 0, make(map[string]bool), ""
		var fields []string
		elements(t, body, func(e xml.StartElement) {
			attributes := make(map[string]string)
			for _, a := range e.Attr {
				attributes[a.Name.Local] = a.Value
			}
			switch e.Name.Local {
			case "h1":
				headings++
			case "html":
				language = attributes["lang"]
			case "label":
				labels[attributes["for"]] = true
			case "input", "select":
				if kind := attributes["type"]; kind != "hidden" && kind != "radio" && kind != "checkbox" {
					fields = append(fields, attributes["id"])
				}
			case "img":
				if _, ok := attributes["alt"]; !ok {
					t.Errorf("%s has a picture without a text", path)
				}
			case "th":
				if attributes["scope"] == "" {
					t.Errorf("%s has a heading of a table without a scope", path)
				}
			}
		})
		if headings != 1 || language != "en" {
			t.Errorf("%s has %d headings and the language %q", path, headings, language)
		}
		for _, id := range fields {
			if !labels[id] {
				t.Errorf("%s has the field %q without a label", path, id)
			}
		}
	}
}

func TestDevicesAreFoundBySubjectClientAndAddress(t *testing.T) {
	h := handler(newPage(t, newFleet(1000)))
	for _, tt := range []struct {
		query string
		want  int // rows
		total string
	}{
		{"", 50, "1\u2009000 sessions"}, {"pump-00123", 1, "1 of 1\u2009000"}, {"CLIENT-0012", 10, "10 of"}, {"10.1.2.7:", 1, "1 of"}, {"no such device", 0, "0 of"}, {"%F0", 0, "0 of"},
	} {
		w := get(h, "/devices?q="+url.QueryEscape(tt.query))
		if rows := strings.Count(w.Body.String(), `<tr><th scope="row"`); rows != tt.want || !strings.Contains(w.Body.String(), tt.total) {
			t.Errorf("%q finds %d rows, want %d and %q:\n%s", tt.query, rows, tt.want, tt.total, w.Body)
		}
	}
}

func TestListHasEveryDeviceOnOnePage(t *testing.T) {
	h := handler(newPage(t, newFleet(120)))
	for _, sort := range []string{"newest", "subject", "client"} {
		seen := make(map[string]int)
		for page := 1; page <= 3; page++ {
			body := get(h, "/devices?sort="+sort+"&page="+strconv.Itoa(page)).Body.String()
			for _, part := range strings.Split(body, `href="/device?subject=`)[1:] {
				name, _, _ := strings.Cut(part, `"`)
				seen[name]++
			}
			if next := strings.Contains(body, `rel="next"`); next != (page < 3) {
				t.Errorf("%s, page %d: next page %v", sort, page, next)
			}
		}
		if len(seen) != 120 {
			t.Errorf("%s: %d devices, want 120", sort, len(seen))
		}
		for name, n := range seen {
			if n != 1 {
				t.Errorf("%s: %s is there %d times", sort, name, n)
			}
		}
	}
}

func TestSessionIsEndedAfterConfirmation(t *testing.T) {
	f := newFleet(3)
	h := handler(newPage(t, f))
	w := get(h, "/sessions/end?id=2")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "End the session of pump-00001?") || len(f.clients) != 3 {
		t.Fatalf("status %d, %d sessions are left:\n%s", w.Code, len(f.clients), w.Body)
	}
	if w = post(h, "/sessions/end", "id=2"); w.Code != 303 || w.Header().Get("Location") != "/device?subject=pump-00001" || len(f.clients) != 2 {
		t.Errorf("status %d to %s, %d sessions are left", w.Code, w.Header().Get("Location"), len(f.clients))
	}
	if body := get(h, "/changes").Body.String(); !strings.Contains(body, ">end session<") || !strings.Contains(body, "pump-00001") {
		t.Errorf("it is not recorded:\n%s", body)
	}
	if w = post(h, "/sessions/end", "id=2"); w.Code != 404 || !strings.Contains(w.Body.String(), "has ended already") {
		t.Errorf("once more: status %d\n%s", w.Code, w.Body)
	}
	if w = post(h, "/sessions/end", "subject=pump-00002"); w.Code != 303 || len(f.clients) != 1 {
		t.Errorf("of a device: status %d, %d sessions are left", w.Code, len(f.clients))
	}
}

// TestReadersSeeEverythingAndChangeNothing: the role read gets no buttons, and its requests for
// changes are refused.
func TestReadersSeeEverythingAndChangeNothing(t *testing.T) {
	f := newFleet(3)
	h := handler(newPage(t, f, withTokens(t, 3)))
	for _, path := range []string{"/tokens", "/token?id=" + tokenID(t, h, "pump-00001"), "/", "/devices", "/devices/seen", "/device?subject=pump-00001", "/refusals", "/telemetry", "/telemetry/device?subject=x"} {
		w := getAsReader(h, path)
		if w.Code != 200 {
			t.Errorf("GET %s: status %d", path, w.Code)
		}
		elements(t, w.Body.String(), func(e xml.StartElement) {
			for _, a := range e.Attr {
				if a.Name.Local == "href" && (strings.HasPrefix(a.Value, "/sessions/") || strings.HasPrefix(a.Value, "/tokens/")) {
					t.Errorf("%s offers %s", path, a.Value)
				}
				if a.Name.Local == "method" && a.Value == "post" && !strings.Contains(w.Body.String(), `action="/sign-out"`) {
					t.Errorf("%s has a form for a change", path)
				}
			}
		})
	}
	for _, r := range newPage(t, f, withTokens(t, 1)).changes() {
		method, path, _ := strings.Cut(r.Pattern, " ")
		if w := ask(h, httptest.NewRequest(method, path+"?id=1", nil), readToken); w.Code != 403 {
			t.Errorf("%s as a reader: status %d, want 403", r.Pattern, w.Code)
		}
	}
	if len(f.clients) != 3 {
		t.Errorf("%d sessions are left", len(f.clients))
	}
	if w := getAsReader(h, "/changes"); w.Code != 403 {
		t.Errorf("the record of changes as a reader: status %d", w.Code)
	}
	if body := getAsReader(h, "/").Body.String(); strings.Contains(body, "/changes") {
		t.Error("a reader is led to the record of changes")
	}
}

func TestRefusalSaysWhatToDo(t *testing.T) {
	h := handler(newPage(t, newFleet(0)))
	body := get(h, "/refusals?subject=pump-00007").Body.String()
	for _, want := range []string{"1 row", "The token is known, but disabled.", "the token pump-00007-k3x2aa is disabled", "code 0x87", "<code>token enable</code>"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q:\n%s", want, body)
		}
	}
	if w := get(h, "/refusals?reason=nonsense"); w.Code != 400 || !strings.Contains(w.Body.String(), "reason is one of") {
		t.Errorf("status %d\n%s", w.Code, w.Body)
	}
	next := nextOf(t, get(h, "/refusals").Body.String())
	older := get(h, next).Body.String()
	if !strings.Contains(older, "client id meter-3,") || strings.Contains(older, "client id meter-40,") {
		t.Errorf("the older rows at %s are not those:\n%s", next, older)
	}
}

// TestSeenDevicesAreFoundByTheirBegin, and each is on one page.
func TestSeenDevicesAreFoundByTheirBegin(t *testing.T) {
	h := handler(newPage(t, newFleet(0)))
	for _, tt := range []struct {
		query string
		want  int
	}{{"", 1000}, {"show=connected", 500}, {"show=away", 500}, {"q=pump-01", 100}, {"q=pump-0123", 1}, {"q=pump-01&show=away", 50}, {"q=none", 0}} {
		seen := make(map[string]int)
		for next := "/devices/seen?" + tt.query; next != ""; {
			body := get(h, next).Body.String()
			for _, part := range strings.Split(body, `href="/device?subject=`)[1:] {
				name, _, _ := strings.Cut(part, `"`)
				seen[name]++
			}
			next = nextOf(t, body)
		}
		if len(seen) != tt.want {
			t.Errorf("%q: %d devices, want %d", tt.query, len(seen), tt.want)
		}
		for name, n := range seen {
			if n != 1 {
				t.Errorf("%q: %s is there %d times", tt.query, name, n)
			}
		}
	}
}

// nextOf returns where the link to the next part of a list leads, or nothing.
func nextOf(t *testing.T, body string) (next string) {
	elements(t, body, func(e xml.StartElement) {
		if len(e.Attr) == 2 && e.Attr[1].Value == "next" {
			next = e.Attr[0].Value
		}
	})
	return next
}

func TestTelemetryIsShownAndDrawn(t *testing.T) {
	h := handler(newPage(t, newFleet(0)))
	for _, period := range []string{"", "day", "week", "month"} {
		body := get(h, "/telemetry/device?subject=x&range="+period).Body.String()
		if n := strings.Count(body, "<svg"); n != 2 {
			t.Errorf("%q: %d graphs, want those of the two numbers", period, n)
		}
		for _, want := range []string{"temperature: now ", ">21.5<", ">running<", ">1.10<", ">007<"} {
			if !strings.Contains(body, want) {
				t.Errorf("%q: the page does not have %q", period, want)
			}
		}
	}
}

func TestWithoutBundledBrokerThereIsNoTelemetry(t *testing.T) {
	h := handler(newPage(t, newFleet(1), func(o *Options) { o.Telemetry = nil }))
	if w := get(h, "/telemetry"); w.Code != 404 {
		t.Errorf("status %d", w.Code)
	}
	for _, path := range []string{"/", "/device?subject=pump-00000"} {
		if body := get(h, path).Body.String(); strings.Contains(body, "/telemetry") {
			t.Errorf("%s leads to it", path)
		}
	}
}

// TestEveryPartSaysHowItIs: the table of the overview has a line with the state of each part.
func TestEveryPartSaysHowItIs(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		change func(*admin.Status)
		want   health
	}{
		{func(*admin.Status) {}, health{Part: "Devices", State: good, Text: "are served"}},
		{func(s *admin.Status) { s.Degraded = []string{"x"} }, health{Part: "Devices", State: warn, Text: "are served, but something is missing"}},
		{func(s *admin.Status) { s.Ready, s.NotReady = false, "draining" }, health{Part: "Devices", State: bad, Text: "are not served", Detail: "draining"}},
		{func(s *admin.Status) {
			s.Sources = []admin.SourceStatus{{Name: "http0", Up: true, Cache: &admin.CacheStatus{Entries: 7, Hits: 3, Misses: 1}}}
		},
			health{Part: "Token source http0", State: good, Text: "answers", Detail: "75.0 % of requests answered by the cache, which has 7 answers"}},
		{func(s *admin.Status) { s.Sources = []admin.SourceStatus{{Name: "http0", Host: "h", LastError: "e"}} }, health{Part: "Token source http0", State: bad, Text: "does not answer", Detail: "h; e"}},
		{func(s *admin.Status) { s.Upstream = []admin.BrokerStatus{{Server: "tcp://a", State: "recovering"}} }, health{Part: "Broker tcp://a", State: warn, Text: "recovering", Detail: "0 sessions"}},
		{func(s *admin.Status) {
			s.Upstream = []admin.BrokerStatus{{Server: "tcp://a", State: "down", LastError: "e"}}
		}, health{Part: "Broker tcp://a", State: bad, Text: "down", Detail: "0 sessions; last error: e"}},
		{func(s *admin.Status) { s.TokenFiles = []admin.FileStatus{{Path: "f", Error: "e"}} }, health{Part: "Token file f", State: bad, Text: "a newer version is not in force", Detail: "0 entries; e"}},
		{func(s *admin.Status) { s.Telemetry = &admin.StoreStatus{Error: "disk full"} }, health{Part: "Telemetry", State: bad, Text: "is not stored", Detail: "the database has 0 B; disk full"}},
		{func(s *admin.Status) { s.Presence.Error = "e" }, health{Part: "First and last seen", State: bad, Text: "is not stored", Detail: "e"}},
		{func(s *admin.Status) { s.Memory = admin.MemoryStatus{Used: 950 << 20, Limit: 1 << 30, Full: true} }, health{Part: "Memory", State: bad, Text: "nearly used up", Detail: "950 MiB of 1 GiB; new connections are refused"}},
		{func(s *admin.Status) { s.Certificates = []admin.Certificate{{Listener: "l", NotAfter: now}} }, health{Part: "Certificate of listener l", State: bad, Text: "expired", End: now}},
		{func(s *admin.Status) { s.LastReload = &admin.ReloadStatus{By: "file", Outcome: "failed", Error: "e"} }, health{Part: "Last reload, by file", State: bad, Text: "failed", Detail: "e"}},
		{func(s *admin.Status) {
			s.Replicas = &admin.ReplicasStatus{Name: "n", Servers: []admin.BusStatus{{Server: "b", LastError: "e"}}}
		}, health{Part: "Bus of the replicas at b", State: bad, Text: "not connected", Detail: "e"}},
	} {
		s := admin.Status{Ready: true}
		tt.change(&s)
		if all := healthOf(s, now); !slices.Contains(all, tt.want) {
			t.Errorf("%+v\nis not among\n%+v", tt.want, all)
		}
	}
}

func TestUnknownAssetIsNotFound(t *testing.T) {
	h := handler(newPage(t, newFleet(0)))
	for path, want := range map[string]int{"/assets/page.css": 200, "/assets/nothing.css": 404, "/assets/..%2fpage.go": 404, "/assets/": 404} {
		if w := get(h, path); w.Code != want {
			t.Errorf("GET %s: status %d, want %d", path, w.Code, want)
		}
	}
}

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
	w := post(h, "/tokens/new", url.Values{"subject": {" meter 9 "}, "expires": {"24h"}, "clientid": {"a b*"}, "comment": {"hall"}}.Encode())
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
	for _, want := range []string{">meter 9<", ">hall<", "a, b*", "in 23 h", ">good<"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of the token does not have %q:\n%s", want, page)
		}
	}
	if all := page + get(h, "/tokens").Body.String(); strings.Contains(all, token) {
		t.Error("the token is shown again")
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

func BenchmarkPages(b *testing.B) {
	h := handler(newPage(b, newFleet(50_000), func(o *Options) { o.History = fakeHistory(50_000) }))
	for _, path := range []string{"/", "/?range=day", "/devices", "/devices?sort=subject&page=500", "/devices?q=pump-04999", "/devices?q=10.1.7", "/device?subject=pump-04999", "/refusals"} {
		b.Run(strings.NewReplacer("/", "_", "?", "_").Replace(path), func(b *testing.B) {
			for b.Loop() {
				if w := get(h, path); w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
