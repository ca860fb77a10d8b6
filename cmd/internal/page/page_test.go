package page

import (
	"encoding/xml"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// TestEveryPageIsAccessible: each field has a label, each picture a text, each page one heading and
// a language.
func TestEveryPageIsAccessible(t *testing.T) {
	h := handler(newPage(t, newFleet(60), withTokens(t, 60), func(o *Options) { o.History = fakeHistory(60) }))
	id := tokenID(t, h, "pump-00001")
	for _, path := range []string{"/", "/devices", "/devices/seen", "/device?subject=pump-00001", "/refusals", "/telemetry", "/telemetry/device?subject=x", "/changes", "/tokens", "/token?id=" + id, "/tokens/new", "/tokens/rotate?id=" + id, "/tokens/extend?id=" + id, "/sessions/end?id=1", "/tokens/withdraw?subject=pump-00001", "/brokers/drain?server=x", "/device"} {
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
				if a.Name.Local == "href" && (strings.HasPrefix(a.Value, "/sessions/") || strings.HasPrefix(a.Value, "/tokens/") || strings.HasPrefix(a.Value, "/brokers/")) {
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

func TestBrokerIsTakenOutOfUseAfterConfirmation(t *testing.T) {
	var made []admin.BrokerChange
	h := handler(newPage(t, newFleet(1), func(o *Options) {
		o.API.Drain = func(c admin.BrokerChange) (admin.BrokerStatus, error) {
			if c.Server != "tcp://10.0.0.1:1883" {
				return admin.BrokerStatus{}, admin.ErrNoBroker
			}
			made = append(made, c)
			return admin.BrokerStatus{Server: c.Server}, nil
		}
	}))
	const path, form = "/brokers/drain?server=tcp%3A%2F%2F10.0.0.1%3A1883", "server=tcp%3A%2F%2F10.0.0.1%3A1883"
	if body := get(h, "/").Body.String(); !strings.Contains(body, path) {
		t.Errorf("the overview does not lead to %s:\n%s", path, body)
	}
	if w := get(h, path); w.Code != 200 || len(made) != 0 {
		t.Errorf("GET: status %d, changes %v", w.Code, made)
	}
	for _, step := range []struct{ path, form string }{{"/brokers/drain", form + "&end=true"}, {"/brokers/drain", form + "&end="}, {"/brokers/enable", form}} {
		if w := post(h, step.path, step.form); w.Code != 303 || w.Header().Get("Location") != "/" {
			t.Errorf("POST %s: status %d", step.path, w.Code)
		}
	}
	const server = "tcp://10.0.0.1:1883"
	if want := []admin.BrokerChange{{Server: server, Drained: true, End: true}, {Server: server, Drained: true}, {Server: server}}; !slices.Equal(made, want) {
		t.Errorf("changes %v, want %v", made, want)
	}
	if w := post(h, "/brokers/drain", "server=other"); w.Code != 404 {
		t.Errorf("another broker: status %d", w.Code)
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
	if w := get(h, "/refusals?reason=nonsense"); w.Code != 400 || !strings.Contains(w.Body.String(), "reason must be one of") {
		t.Errorf("status %d\n%s", w.Code, w.Body)
	}
	next := nextOf(t, get(h, "/refusals").Body.String())
	older := get(h, next).Body.String()
	if !strings.Contains(older, "client id meter-3,") || strings.Contains(older, "client id meter-40,") {
		t.Errorf("the older rows at %s are not those:\n%s", next, older)
	}
}

// TestSeenDevicesAreFoundByTheBeginningOfTheirNames: each device that matches a search is on
// exactly one page.
func TestSeenDevicesAreFoundByTheBeginningOfTheirNames(t *testing.T) {
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

// TestGatewayLeadsToTheDevicesBehindIt: the page of a gateway has links to the devices behind it,
// and their pages have a link to the gateway.
func TestGatewayLeadsToTheDevicesBehindIt(t *testing.T) {
	h := handler(newPage(t, newFleet(0)))
	body := get(h, "/telemetry/device?subject=gw-1").Body.String()
	if n := strings.Count(body, `href="/telemetry/device?subject=gw-1%2f`); n != 200 || !strings.Contains(body, "and more") || !strings.Contains(body, "Sessions and refusals") {
		t.Errorf("%d devices behind the gateway:\n%s", n, body)
	}
	body = get(h, "/telemetry/device?subject=gw-1%2froom%202").Body.String()
	if !strings.Contains(body, `href="/telemetry/device?subject=gw-1">Its gateway<`) || !strings.Contains(body, ">21.5<") || strings.Contains(body, "behind this gateway") {
		t.Errorf("a device behind a gateway:\n%s", body)
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

// TestHealthOfEveryPart: the table of the overview has a line with the state of each part.
func TestHealthOfEveryPart(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		change func(*admin.Status)
		want   health
	}{
		{func(*admin.Status) {}, health{Part: "Devices", State: good, Text: "are served"}},
		{func(s *admin.Status) { s.Degraded = []string{"x"} }, health{Part: "Devices", State: warn, Text: "are served, but something does not work"}},
		{func(s *admin.Status) { s.Ready, s.NotReady = false, "draining" }, health{Part: "Devices", State: bad, Text: "are not served", Detail: "draining"}},
		{func(s *admin.Status) {
			s.Sources = []admin.SourceStatus{{Name: "http0", Up: true, Cache: &admin.CacheStatus{Entries: 7, Hits: 3, Misses: 1}}}
		},
			health{Part: "Token source http0", State: good, Text: "answers", Detail: "75.0 % of requests answered by the cache, which has 7 answers"}},
		{func(s *admin.Status) { s.Sources = []admin.SourceStatus{{Name: "http0", Host: "h", LastError: "e"}} }, health{Part: "Token source http0", State: bad, Text: "does not answer", Detail: "h; e"}},
		{func(s *admin.Status) { s.Upstream = []admin.BrokerStatus{{Server: "tcp://a", State: "recovering"}} }, health{Part: "Broker tcp://a", State: warn, Text: "recovering", Detail: "0 sessions", Change: "Take out of use", Path: "/brokers/drain?server=tcp%3A%2F%2Fa"}},
		{func(s *admin.Status) {
			s.Upstream = []admin.BrokerStatus{{Server: "tcp://a", State: "down", LastError: "e"}}
		}, health{Part: "Broker tcp://a", State: bad, Text: "down", Detail: "0 sessions; last error: e", Change: "Take out of use", Path: "/brokers/drain?server=tcp%3A%2F%2Fa"}},
		{func(s *admin.Status) { s.Upstream = []admin.BrokerStatus{{Server: "tcp://a", State: "drained"}} }, health{Part: "Broker tcp://a", State: warn, Text: "out of use", Detail: "0 sessions", Change: "Use again", Path: "/brokers/enable?server=tcp%3A%2F%2Fa"}},
		{func(s *admin.Status) { s.Hooks = &admin.HooksStatus{Receiver: "h", Delivered: 7, LastError: "e"} }, health{Part: "Events to h", State: warn, Text: "are not delivered", Detail: "7 delivered, 0 waiting, 0 dropped, 0 rejected; e"}},
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
