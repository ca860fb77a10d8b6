package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// fileStore is the token file at a path.
type fileStore string

func (f fileStore) Update(_ context.Context, create bool, _ tokenfile.Scope, change func(*tokenfile.Edit) error) error {
	return tokenfile.Update(string(f), create, change)
}

func (f fileStore) Page(ctx context.Context, q tokenfile.Query) (tokenfile.Page, error) {
	return tokenfile.ReadPage(ctx, string(f), q)
}

// tokenAPI returns the API of a new token file, and the changes that it records.
func tokenAPI(t *testing.T) (http.Handler, *API) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	seen := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	a := &API{
		Audit: &Audit{},
		Tokens: func() ([]NamedStore, error) {
			return []NamedStore{{"file0", fileStore(path)}, {"file1", fileStore(path + ".2")}}, nil
		},
		TokensSeen: func(_ context.Context, ids []string) (map[string]time.Time, error) {
			return map[string]time.Time{ids[0]: seen}, nil
		},
	}
	return newHandler(Options{Access: operator(testToken), API: a}), a
}

// made sends a request that makes a token.
func made(t *testing.T, h http.Handler, path, body string) newToken {
	t.Helper()
	status, answer := call(h, "POST", path, body)
	var n newToken
	if err := json.Unmarshal([]byte(answer), &n); status != 200 || err != nil || n.Token == "" {
		t.Fatalf("POST %s %s: status %d, %s, %v", path, body, status, answer, err)
	}
	return n
}

func listed(t *testing.T, h http.Handler, query string) TokenList {
	t.Helper()
	status, answer := call(h, "GET", "/v1/tokens"+query, "")
	var list TokenList
	if err := json.Unmarshal([]byte(answer), &list); status != 200 || err != nil {
		t.Fatalf("GET %s: status %d, %s, %v", query, status, answer, err)
	}
	return list
}

func TestTokensAreCreatedListedAndChanged(t *testing.T) {
	h, a := tokenAPI(t)
	first := made(t, h, "/v1/tokens", `{"subject":"pump-7","expire_at":"2099-01-31T00:00:00Z","clientid":["p7"],"gateway":true,"comment":"hall 3"}`)
	if !tokenfile.WellFormed(first.Token) || first.Subject != "pump-7" || first.Expires == nil {
		t.Errorf("made %+v", first)
	}
	for _, name := range []string{"pump-8", "pump-9", "valve-1"} {
		made(t, h, "/v1/tokens", `{"subject":"`+name+`"}`)
	}
	list := listed(t, h, "?match=pump-*&limit=2")
	if list.Total != 3 || len(list.Tokens) != 2 || list.Source != "file0" || len(list.Sources) != 2 {
		t.Errorf("list %+v", list)
	}
	if x := list.Tokens[0]; x.ID != first.ID || x.State != "good" || x.Comment != "hall 3" || x.Created == nil || x.LastSeen == nil || strings.Join(x.ClientIDs, "") != "p7" || !x.Gateway || list.Tokens[1].Gateway {
		t.Errorf("entry %+v", x)
	}
	if rest := listed(t, h, "?match=pump-*&limit=2&first=2"); len(rest.Tokens) != 1 || rest.Tokens[0].Subject != "pump-9" {
		t.Errorf("rest %+v", rest)
	}

	second := made(t, h, "/v1/tokens/rotate", `{"subject":"pump-7","overlap":"24h"}`)
	if both := listed(t, h, "?match=pump-7"); second.Token == first.Token || both.Total != 2 {
		t.Errorf("after rotation with overlap there are %d tokens", both.Total)
	}
	for _, step := range []struct{ change, state string }{{"disable", "disabled"}, {"enable", "good"}} {
		if status, body := call(h, "POST", "/v1/tokens/"+step.change, `{"names":["`+second.ID+`"]}`); status != 200 || !strings.Contains(body, second.ID) {
			t.Errorf("%s: status %d, %s", step.change, status, body)
		}
		if got := listed(t, h, "?match="+second.ID); got.Tokens[0].State != step.state {
			t.Errorf("%s: the state is %s", step.change, got.Tokens[0].State)
		}
	}
	if got := listed(t, h, "?state=disabled"); got.Total != 0 {
		t.Errorf("%d tokens are disabled", got.Total)
	}
	call(h, "POST", "/v1/tokens/extend", `{"names":["pump-8"],"expire_at":"2098-01-31T00:00:00Z"}`)
	if got := listed(t, h, "?match=pump-8"); got.Tokens[0].Expires.Year() != 2098 {
		t.Errorf("expires %v", got.Tokens[0].Expires)
	}
	if status, body := call(h, "POST", "/v1/tokens/revoke", `{"names":["pump-7"]}`); status != 200 || !strings.Contains(body, first.ID) || !strings.Contains(body, second.ID) {
		t.Errorf("revoke: status %d, %s", status, body)
	}
	if got := listed(t, h, ""); got.Total != 3 {
		t.Errorf("%d tokens are left", got.Total)
	}

	record, _ := json.Marshal(a.Audit.Latest(100))
	for _, want := range []string{"create token", "rotate token", "disable token", "enable token", "extend token", "revoke token", "pump-7"} {
		if !strings.Contains(string(record), want) {
			t.Errorf("%q is not recorded: %s", want, record)
		}
	}
	for _, secret := range []string{first.Token, second.Token} {
		if strings.Contains(string(record), secret) {
			t.Error("a token is recorded")
		}
	}
}

func TestChangesOfTokensThatAreRefused(t *testing.T) {
	h, a := tokenAPI(t)
	made(t, h, "/v1/tokens", `{"subject":"pump-7"}`)
	for _, tt := range []struct {
		method, path, body string
		want               int
		says               string
	}{
		{"POST", "/v1/tokens", `{}`, 422, "name"},
		{"POST", "/v1/tokens", `{"subject":"x","expire_at":"tomorrow"}`, 400, "RFC 3339"},
		{"POST", "/v1/tokens", `{"subject":"x","expire_at":"2020-01-01T00:00:00Z"}`, 422, "passed"},
		{"POST", "/v1/tokens", `{"subject":"x","token":"mine"}`, 400, "fields"},
		{"POST", "/v1/tokens", `{"subject":"x","names":["y"]}`, 400, "fields"},
		{"POST", "/v1/tokens", `{"subject":"x","source":"http0"}`, 404, "no token source"},
		{"POST", "/v1/tokens/rotate", `{"subject":"none"}`, 404, "none"},
		{"POST", "/v1/tokens/rotate", `{"subject":"pump-7","overlap":"-1h"}`, 400, "24h"},
		{"POST", "/v1/tokens/disable", `{"names":["none"]}`, 404, "none"},
		{"POST", "/v1/tokens/disable", `{"names":[]}`, 400, "names"},
		{"POST", "/v1/tokens/delete", `{"names":["pump-7"]}`, 404, "nothing at this path"},
		{"GET", "/v1/tokens?state=bad", "", 400, "state is"},
		{"GET", "/v1/tokens?offset=1", "", 400, "parameters"},
		{"GET", "/v1/tokens?limit=0", "", 400, "limit"},
		{"GET", "/v1/tokens?first=-1", "", 400, "first"},
	} {
		if status, body := call(h, tt.method, tt.path, tt.body); status != tt.want || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s %s: status %d, %s; want %d with %q", tt.method, tt.path, tt.body, status, body, tt.want, tt.says)
		}
	}
	if list := listed(t, h, ""); list.Total != 1 {
		t.Errorf("%d tokens, want the one", list.Total)
	}
	if !strings.Contains(a.Audit.Latest(1)[0].Outcome, "failed") {
		t.Errorf("the failure is not recorded: %+v", a.Audit.Latest(1))
	}
	a.Tokens = nil
	if status, _ := call(h, "GET", "/v1/tokens", ""); status != 404 {
		t.Errorf("without sources that can be changed: status %d", status)
	}
}

// TestTokenOfAReader is made with its role, which has to be one that there is.
func TestTokenOfAReader(t *testing.T) {
	h, _ := tokenAPI(t)
	made(t, h, "/v1/tokens", `{"subject":"dashboard","role":"reader"}`)
	if x := listed(t, h, "?match=dashboard").Tokens[0]; x.Role != authz.RoleReader {
		t.Errorf("entry %+v", x)
	}
	if status, body := call(h, "POST", "/v1/tokens", `{"subject":"dashboard-2","role":"admin"}`); status != 400 || !strings.Contains(body, "device or reader") {
		t.Errorf("unknown role: status %d, %s", status, body)
	}
}

// faultyStore is a store with a row that cannot be read.
type faultyStore struct{ fileStore }

func (f faultyStore) Page(ctx context.Context, q tokenfile.Query) (tokenfile.Page, error) {
	page, err := f.fileStore.Page(ctx, q)
	page.Total++
	page.Faults = []string{`the row with token_id "t-8": limits: unknown field`}
	return page, err
}

// TestFaultyRowIsNamedInTheList: the others are listed.
func TestFaultyRowIsNamedInTheList(t *testing.T) {
	store := faultyStore{fileStore(filepath.Join(t.TempDir(), "tokens.jsonl"))}
	h := newHandler(Options{Access: operator(testToken), API: &API{
		Audit: &Audit{}, Tokens: func() ([]NamedStore, error) { return []NamedStore{{"postgres0", store}}, nil },
	}})
	made(t, h, "/v1/tokens", `{"subject":"pump-7"}`)
	list := listed(t, h, "")
	if list.Total != 2 || len(list.Tokens) != 1 || len(list.Faults) != 1 || !strings.Contains(list.Faults[0], `"t-8"`) {
		t.Errorf("%+v", list)
	}
}
