package service

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// changingRequest is a request that changes something if an operator sends it.
type changingRequest struct{ method, path, body string }

// foreignRig is a service with an operator who has signed in with a browser.
type foreignRig struct {
	t      *testing.T
	s      *Service
	file   string // of tokens
	base   string
	cookie *http.Cookie
	client *http.Client
}

func newForeignRig(t *testing.T, more string) *foreignRig {
	r := &foreignRig{t: t, file: filepath.Join(t.TempDir(), "tokens.jsonl"), client: client(t, nil)}
	made, err := tokenfile.Create(r.file, tokenfile.CreateOptions{Name: "pump-1"})
	if err != nil {
		t.Fatal(err)
	}
	r.s, _ = startService(t, bundledConfig+"auth: {sources: [{file: {path: "+r.file+"}}]}\n"+more)
	r.base = "http://" + r.s.current.Load().admin.socket.Addr().String()
	var status int
	if status, r.cookie = signIn(t, r.client, r.base, r.adminToken()); status != 303 {
		t.Fatalf("sign-in: status %d", status)
	}
	if r.s.bundled != nil {
		login(t, r.s, packets.Connect{Level: 5, CleanStart: true, KeepAlive: 600, ClientID: "client-1", HasUsername: true, Username: made.Token.Reveal()})
	}
	return r
}

func (r *foreignRig) adminToken() string {
	token, err := os.ReadFile(r.s.current.Load().config.Admin.TokenFile)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// send sends a request with these headers, and with the cookie if signedIn is set.
func (r *foreignRig) send(q changingRequest, signedIn bool, header map[string]string) int {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), q.method, r.base+q.path, strings.NewReader(q.body))
	if err != nil {
		r.t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	if signedIn {
		request.AddCookie(r.cookie)
	}
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// requests returns requests for every route that may change something: those of a pattern with
// such a method, and for a pattern of all methods one with each.
func (r *foreignRig) requests() (all []changingRequest) {
	paths := strings.NewReplacer("{$}", "", "{id}", "1", "{change}", "disable")
	for _, pattern := range r.s.adminOptions(r.t.Context(), r.s.api()).Patterns() {
		method, path, ok := strings.Cut(pattern, " ")
		methods := []string{method}
		if !ok {
			path, methods = pattern, []string{"POST", "PUT", "PATCH", "DELETE"}
		}
		for _, method := range methods {
			if method == "GET" {
				continue
			}
			q := changingRequest{method, paths.Replace(path), bodyOfRoute(path)}
			switch {
			case q.method == "DELETE" && path == "/v1/sessions":
				q.path += "?subject=pump-1"
			case path == "/api/plugins/telemetry/":
				q.path += "DEVICE/pump-1/SHARED_SCOPE?keys=interval"
			case strings.HasPrefix(path, "/api/"):
				q.path += "oneway/pump-1"
			}
			all = append(all, q)
		}
	}
	return all
}

// bodyOfRoute returns a body with which a route changes something: the fields of a form for the
// page, JSON for programs.
func bodyOfRoute(path string) string {
	switch path {
	case "/v1/tokens":
		return `{"subject":"pump-3"}`
	case "/v1/tokens/rotate":
		return `{"subject":"pump-1"}`
	case "/v1/tokens/{change}":
		return `{"names":["pump-1"]}`
	case "/v1/revocations", "/v1/push":
		return `{"subject":"pump-1","mode":"evict"}`
	case "/v1/brokers/drain", "/v1/brokers/enable":
		return `{"server":"tcp://127.0.0.1:1"}`
	case "/api/plugins/telemetry/":
		return `{"interval":30}`
	case "/api/rpc/", "/api/plugins/rpc/":
		return `{"method":"stop","params":{}}`
	}
	return "subject=pump-1&id=1&token_id=x&mode=evict&server=tcp%3A%2F%2F127.0.0.1%3A1&overlap=&change=disable"
}

// state returns what a request could change: the tokens, and the record of all changes.
func (r *foreignRig) state() string {
	tokens, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	var state bytes.Buffer
	fmt.Fprintf(&state, "%s\n%d sessions, %d denials\n", tokens, r.s.server.Stats().Sessions, denials(r.t, r.s))
	for _, c := range r.s.audit.Latest(100) {
		fmt.Fprintf(&state, "%s %s %s\n", c.Action, c.Object, c.Outcome)
	}
	return state.String()
}

// TestForeignPagesChangeNothing sends what a page of another origin can make the browser of an
// operator send, and what programs without a token send, to every route that may change something.
// The same requests of the operator pass the gate, so that it is the gate that has refused them.
func TestForeignPagesChangeNothing(t *testing.T) {
	for name, more := range map[string]string{
		"bundled broker": "", "brokers": "upstream: {servers: [\"tcp://127.0.0.1:1\", \"tcp://127.0.0.1:2\"]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newForeignRig(t, more)
			requests := r.requests()
			if len(requests) < 15 {
				t.Fatalf("only %d requests", len(requests))
			}
			r.refuseAll(requests)
			for _, q := range requests {
				own := map[string]string{"Origin": r.base, "Sec-Fetch-Site": "same-origin", "Content-Type": contentType(q)}
				got := r.send(q, true, own)
				if refused := got == 401 || got == 403 || got == 421; refused && q.path != "/v1/push" && q.path != "/sign-in" {
					t.Errorf("%s %s of the operator: status %d, so that the refusals of others say nothing", q.method, q.path, got)
				}
				if q.path == "/sign-out" {
					_, r.cookie = signIn(t, r.client, r.base, r.adminToken())
				}
			}
		})
	}
}

// contentType returns the content type that belongs to the body of a request.
func contentType(q changingRequest) string {
	if strings.HasPrefix(q.body, "{") {
		return "application/json"
	}
	return "application/x-www-form-urlencoded"
}

// refuseAll checks that no foreign request changes anything.
func (r *foreignRig) refuseAll(requests []changingRequest) {
	t := r.t
	before := r.state()
	elsewhere := map[string]map[string]string{
		"a form of another site":      {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
		"a script of another site":    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
		"another port of the machine": {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site"},
		"an old browser":              {"Origin": "https://evil.example"},
		"a frame without an origin":   {"Origin": "null"},
		"a script without an origin":  {"Sec-Fetch-Site": "cross-site"},
		"the scheme https":            {"Origin": strings.Replace(r.base, "http:", "https:", 1), "Sec-Fetch-Site": "same-site"},
	}
	simple := []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "application/json", ""}
	for _, q := range requests {
		for _, name := range slices.Sorted(maps.Keys(elsewhere)) {
			for _, content := range simple {
				header := maps.Clone(elsewhere[name])
				if content != "" {
					header["Content-Type"] = content
				}
				if got := r.send(q, true, header); got != 403 {
					t.Errorf("%s %s from %s as %q: status %d", q.method, q.path, name, content, got)
				}
			}
		}
		for name, header := range map[string]map[string]string{
			"no token": {}, "a wrong token": {"Authorization": "Bearer wrong"}, "another scheme": {"Authorization": "Basic " + r.adminToken()},
		} {
			// Signing in and out is for everyone, and neither changes anything without a token.
			if got := r.send(q, false, header); got != 401 && q.path != "/sign-out" {
				t.Errorf("%s %s with %s: status %d", q.method, q.path, name, got)
			}
		}
		if after := r.state(); after != before {
			t.Fatalf("%s %s has changed the state from\n%s\nto\n%s", q.method, q.path, before, after)
		}
	}
}
