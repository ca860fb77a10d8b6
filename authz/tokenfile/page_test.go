package tokenfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// fleetFile returns a file with n devices, of which some are disabled, expired, expire soon, or are
// not valid yet, and the time for which that holds.
func fleetFile(t testing.TB, n int) (path string, now time.Time) {
	t.Helper()
	now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	var text strings.Builder
	text.WriteString("{\"format\":\"mqtt-auth-tokens/1\"}\n# the fleet\n\n")
	for i := range n {
		fmt.Fprintf(&text, `{"id":"t-%d","subject":"pump-%d","token_hash":"sha256:%064x"`, i, i/2, i+1)
		switch i % 7 {
		case 1:
			text.WriteString(`,"disabled":true`)
		case 2:
			text.WriteString(`,"expire_at":"2026-11-30T11:59:59Z"`)
		case 3:
			text.WriteString(`,"expire_at":"2026-11-30T13:00:00Z"`)
		case 4:
			text.WriteString(`,"not_before":"2026-12-30T13:00:00Z"`)
		}
		fmt.Fprintf(&text, `,"created_at":"2026-01-01T00:00:00Z","comment":"no. %d"}`+"\n", i)
	}
	fmt.Fprintf(&text, `{"end":true,"count":%d}`+"\n", n)
	path = filepath.Join(t.TempDir(), "tokens.jsonl")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, now
}

// selectedBy is what a page should be, found by looking at all entries.
func selectedBy(all []Entry, q Query) (page Page) {
	behind := q.After == ""
	for _, e := range all {
		if !behind {
			behind = e.ID == q.After
			continue
		}
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(q.Pattern, "*", ".*") + "$").MatchString
		if q.ID != "" && q.ID != e.ID || q.Subject != "" && q.Subject != e.Subject || q.Pattern != "" && !pattern(e.ID) && !pattern(e.Subject) ||
			q.State != "" && e.State(q.Now) != q.State ||
			q.ExpiresWithin > 0 && (e.Expires.IsZero() || !e.Expires.After(q.Now) || e.Expires.After(q.Now.Add(q.ExpiresWithin))) {
			continue
		}
		if page.Total++; page.Total > q.First && (q.Limit == 0 || len(page.Entries) < q.Limit) {
			page.Entries, page.Last = append(page.Entries, e), e.ID
		}
	}
	return page
}

var compareEntries = cmp.Options{compareTokens, comparePrefixes, cmp.Comparer(time.Time.Equal), cmp.Comparer((*authz.ACL).Equal), cmp.Comparer(authz.Limits.Equal)}

// TestPageHasWhatTheQuerySelects: a page of the version in effect, and one of the file itself, have
// the entries that a look at all of them finds.
func TestPageHasWhatTheQuerySelects(t *testing.T) {
	path, now := fleetFile(t, 700)
	all, err := List(path)
	if err != nil || len(all) != 700 || all[3].Comment != "no. 3" {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	f, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	queries := []Query{
		{}, {Limit: 50}, {First: 690, Limit: 50}, {First: 800, Limit: 50}, {After: "t-300", Limit: 3}, {After: "t-699", Limit: 3},
		{ID: "t-9"}, {ID: "pump-9"}, {Subject: "pump-9"}, {Subject: "t-9"}, {ID: "t-9", Subject: "pump-1"},
		{Pattern: "pump-1*", Limit: 10}, {Pattern: "*-6*9", First: 1, Limit: 2}, {Pattern: "*"}, {Pattern: "nothing*"},
		{ExpiresWithin: time.Hour, Limit: 5}, {ExpiresWithin: time.Minute},
	}
	for _, state := range States() {
		queries = append(queries, Query{State: state, First: 3, Limit: 20}, Query{State: state, Pattern: "*7", After: "t-70"})
	}
	for _, q := range queries {
		q.Now = now
		want := selectedBy(all, q)
		got, err := ReadPage(t.Context(), path, q)
		if diff := cmp.Diff(want, got, compareEntries); err != nil || diff != "" {
			t.Errorf("%+v: %v\n%s", q, err, diff)
		}
		got, err = f.pageInEffect(q)
		if diff := cmp.Diff(want, got, compareEntries); err != nil || diff != "" {
			t.Errorf("%+v of the version in effect: %v\n%s", q, err, diff)
		}
	}
	for e := range f.current.Load().all() {
		if e.grant.Load() != nil {
			t.Fatalf("a list has left a grant with %s", e.id)
		}
	}
	for _, page := range []func(context.Context, Query) (Page, error){f.Page, func(ctx context.Context, q Query) (Page, error) { return ReadPage(ctx, path, q) }} {
		if _, err := page(t.Context(), Query{After: "no such id"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("behind an id that does not exist: %v", err)
		}
	}
}

// TestPageOfAFileThatHasChanged: what was written a moment ago is listed, though it is not in effect
// yet.
func TestPageOfAFileThatHasChanged(t *testing.T) {
	path, _ := fleetFile(t, 100)
	f, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := Create(path, CreateOptions{Name: "new"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.pageInEffect(Query{}); err == nil {
		t.Error("a page of the version before")
	}
	page, err := f.Page(t.Context(), Query{First: 100, Limit: 1})
	if err != nil || page.Total != 101 || len(page.Entries) != 1 || page.Entries[0].ID != made.ID {
		t.Errorf("%+v, %v", page, err)
	}
	if err := f.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if page, err := f.pageInEffect(Query{Subject: "new"}); err != nil || page.Total != 1 {
		t.Errorf("after the reload: %+v, %v", page, err)
	}
	// The same stamp does not prove that the content is the same.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	swapped := strings.NewReplacer(`"t-10"`, `"t-11"`, `"t-11"`, `"t-10"`).Replace(string(content))
	if err := errors.Join(os.WriteFile(path, []byte(swapped), 0o600), os.Chtimes(path, time.Time{}, info.ModTime())); err != nil {
		t.Fatal(err)
	}
	page, err = f.Page(t.Context(), Query{ID: "t-10"})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Subject != "pump-5" || page.Entries[0].Comment != "no. 11" {
		t.Errorf("after a change that the stamp does not show: %+v, %v", page, err)
	}
}

// TestFaultsOfAFileThatIsReadThrough: a file is read through with all of its rules, and nothing of
// one that breaks them is listed or printed.
func TestFaultsOfAFileThatIsReadThrough(t *testing.T) {
	path, _ := fleetFile(t, 2000)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"the same id":        {`"id":"t-1500"`, `"id":"t-3"`, "1504: id: the same as in line 7"},
		"the same token":     {fmt.Sprintf("%064x", 1501), fmt.Sprintf("%064x", 5), "1504: token_hash: the same token as in line 8"},
		"an unknown field":   {`"comment":"no. 1999"`, `"kommentar":"x"`, "2003: kommentar: an unknown field"},
		"a wrong count":      {`"count":2000`, `"count":2001`, "2004: count: says 2001"},
		"a line after":       {`"count":2000}`, "\"count\":2000}\n{}", "2005: is after the end line"},
		"a line is too long": {`"no. 1000"`, `"` + strings.Repeat("x", maxLine) + `"`, "1004: longer than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := strings.Replace(string(content), c.old, c.new, 1)
			if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
				t.Fatal(err)
			}
			_, pageErr := ReadPage(t.Context(), path, Query{Limit: 1})
			_, listErr := List(path)
			_, lintErr := Lint(path)
			eachErr := Each(path, All(), func(Entry, []byte) error { t.Error("an entry of a broken file"); return errors.New("no") })
			for _, err := range []error{pageErr, listErr, lintErr, eachErr} {
				if broken, ok := errors.AsType[*FormatError](err); !ok || !strings.Contains(broken.Error(), c.want) {
					t.Fatalf("the error is %v, want %q", err, c.want)
				}
			}
		})
	}
}

// TestPatternsAreAsRegularExpressions: a pattern without ? is matched by a faster way, which finds
// the same.
func TestPatternsAreAsRegularExpressions(t *testing.T) {
	var texts []string
	for n := range 1 << 6 {
		texts = append(texts, strings.NewReplacer("0", "a", "1", "b").Replace(fmt.Sprintf("%b", n)))
	}
	letters := []string{"a", "b", "*"}
	for n := range 3 * 3 * 3 * 3 {
		pattern := ""
		for range 4 {
			pattern += letters[n%3]
			n /= 3
		}
		for cut := range pattern {
			pattern := pattern[cut:]
			match, model := matcher(pattern), regexp.MustCompile("^"+strings.ReplaceAll(pattern, "*", ".*")+"$")
			if i := slices.IndexFunc(texts, func(text string) bool { return match(text) != model.MatchString(text) }); i >= 0 {
				t.Fatalf("%q matches %q: %v", pattern, texts[i], match(texts[i]))
			}
		}
	}
}
