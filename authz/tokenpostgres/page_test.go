//go:build integration

package tokenpostgres

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestPageHasWhatTheQuerySelects: a page has the rows that a look at all of them finds, in the order
// in which they were added, and the database counts the others.
func TestPageHasWhatTheQuerySelects(t *testing.T) {
	d, table := newTable(t)
	d.sql(`DELETE FROM mqtt_auth_proxy.tokens;
		INSERT INTO mqtt_auth_proxy.tokens (token_id, subject, token_sha256, disabled, expires_at, not_before)
		SELECT 't-' || i, 'pump_' || i / 2, sha256(('token ' || i)::bytea), i % 7 = 1,
			CASE i % 7 WHEN 2 THEN now() - interval '1 hour' WHEN 3 THEN now() + interval '1 hour' WHEN 5 THEN 'infinity' WHEN 6 THEN '-infinity' END,
			CASE i % 14 WHEN 4 THEN now() + interval '1 day' WHEN 5 THEN '-infinity' END
		FROM generate_series(0, 299) AS i ORDER BY i`)
	// The same entries in a file, whose pages have a test of their own.
	var lines bytes.Buffer
	if err := table.Each(t.Context(), tokenfile.All(), func(_ tokenfile.Entry, line []byte) error {
		lines.Write(line)
		return lines.WriteByte('\n')
	}); err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/tokens.jsonl"
	harness.WriteFile(t, file, lines.String())
	now := time.Now()
	queries := []tokenfile.Query{
		{}, {Limit: 50}, {First: 290, Limit: 50}, {First: 400, Limit: 50}, {After: "t-200", Limit: 3}, {After: "t-299"},
		{ID: "t-9"}, {ID: "pump_4"}, {Subject: "pump_4"}, {ID: "t-9", Subject: "pump_1"}, {ID: "a\x00b"}, {Subject: "a\xffb"}, {Pattern: "a\xff*"},
		{Pattern: "pump_1*", Limit: 10}, {Pattern: "pump?1*", First: 3}, {Pattern: "*%*"}, {Pattern: "*"}, {Pattern: "t-1?1", Limit: 4},
		{ExpiresWithin: 2 * time.Hour, Limit: 5}, {ExpiresWithin: time.Minute},
	}
	for _, state := range tokenfile.States() {
		queries = append(queries, tokenfile.Query{State: state, First: 3, Limit: 20}, tokenfile.Query{State: state, Pattern: "*7", After: "t-70"})
	}
	for _, q := range queries {
		q.Now = now
		want, err := tokenfile.ReadPage(t.Context(), file, q)
		if err != nil {
			t.Fatal(err)
		}
		got, err := table.Page(t.Context(), q)
		if err != nil || got.Total != want.Total || got.Last != want.Last || fmt.Sprint(idsOf(got)) != fmt.Sprint(idsOf(want)) {
			t.Errorf("%+v: %d of %d up to %s, %v, %v; want %d of %d up to %s, %v", q, len(got.Entries), got.Total, got.Last, idsOf(got), err, len(want.Entries), want.Total, want.Last, idsOf(want))
		}
	}
	if _, err := table.Page(t.Context(), tokenfile.Query{After: "no such id"}); !errors.Is(err, tokenfile.ErrNotFound) {
		t.Errorf("behind an id that does not exist: %v", err)
	}
}

func idsOf(p tokenfile.Page) (ids []string) {
	for _, e := range p.Entries {
		ids = append(ids, e.ID)
	}
	return ids
}

// TestFaultyRowOnAPage: the others of its page are listed, and the row is named, there and on no
// other page.
func TestFaultyRowOnAPage(t *testing.T) {
	d, table := newTable(t)
	d.sql(`UPDATE mqtt_auth_proxy.tokens SET limits = '{"rate": 1}' WHERE token_id = 't-8'`)
	whole, err := table.Page(t.Context(), tokenfile.Query{})
	if err != nil || whole.Total != 5 || len(whole.Entries) != 4 || len(whole.Faults) != 1 || !strings.HasPrefix(whole.Faults[0], `the row with token_id "t-8": limits: `) {
		t.Fatalf("%+v, %v", whole, err)
	}
	var seen []string
	for after, n := "", 0; ; n++ {
		page, err := table.Page(t.Context(), tokenfile.Query{After: after, Limit: 1})
		if err != nil || n > 5 {
			t.Fatal(page, err)
		}
		if page.Last == "" {
			break
		}
		if faulty := page.Last == "t-8"; faulty != (len(page.Faults) == 1) || faulty != (len(page.Entries) == 0) {
			t.Errorf("the page of %s: %+v", page.Last, page)
		}
		seen, after = append(seen, page.Last), page.Last
	}
	if len(seen) != 5 || !slices.Contains(seen, "t-8") {
		t.Errorf("page by page: %q", seen)
	}
}
