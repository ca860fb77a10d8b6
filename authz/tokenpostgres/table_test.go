//go:build integration

package tokenpostgres

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// newTable makes a database with the schema and some devices, see newSchema.
func newTable(t *testing.T) (*database, *Table) {
	t.Helper()
	d, dsn := newSchema(t, harness.StartPostgres(t))
	table, err := OpenTable(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return d, table
}

func scopeOf(names ...string) tokenfile.Scope { return tokenfile.Scope{Names: names} }

// TestLinesHaveEveryField: what a token file can say of an entry, the table can say as well.
func TestLinesHaveEveryField(t *testing.T) {
	_, err := new(tokenfile.LineReader).Entry([]byte(`{"unknown":1}`))
	_, list, ok := strings.Cut(err.Error(), "known are ")
	if !ok {
		t.Fatal(err)
	}
	sql, err := os.ReadFile("lines.sql")
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, m := range regexp.MustCompile(`'"(\w+)":`).FindAllStringSubmatch(string(sql), -1) {
		fields = append(fields, m[1])
	}
	known := strings.Split(list, ", ")
	slices.Sort(known)
	slices.Sort(fields)
	if !slices.Equal(known, fields) {
		t.Errorf("lines.sql has %q, a token file has %q", fields, known)
	}
}

// TestRowsThatOnlySQLMakes: a row may have values that no entry of a file has. They are kept by
// edits, a new token of the device has them too, and a listing shows them.
func TestRowsThatOnlySQLMakes(t *testing.T) {
	d, table := newTable(t)
	d.sql(`UPDATE mqtt_auth_proxy.tokens SET is_superuser = true, expires_at = 'infinity', not_before = '-infinity',
		attrs = '{"floor": 2, "new": true}', created_at = '2026-01-01T00:00:00.75Z' WHERE token_id = 't-7';
		UPDATE mqtt_auth_proxy.tokens SET acl = '[{"permission": "allow", "action": "all", "topic": "a"}]', acl_no_match = 'defer',
		expires_at = '-infinity' WHERE token_id = 't-9'`)
	shown := map[string]tokenfile.Entry{}
	if err := table.Each(t.Context(), tokenfile.All(), func(e tokenfile.Entry, _ []byte) error { shown[e.ID] = e; return nil }); err != nil {
		t.Fatal(err)
	}
	e := shown["t-7"]
	if !e.Expires.IsZero() || !e.Only.NotBefore.IsZero() || e.Attrs["floor"] != "2" || e.Attrs["new"] != "true" || e.Created.Unix() != 1767225600 || !strings.HasPrefix(e.ACL.String(), "defer") {
		t.Errorf("t-7 is shown as %+v", e)
	}
	if e := shown["t-9"]; e.Expires.IsZero() || e.Expires.After(time.Now()) || !strings.HasPrefix(e.ACL.String(), "defer [") {
		t.Errorf("t-9 is shown as %+v", e)
	}
	err := table.Update(t.Context(), scopeOf("pump-7", "pump-9"), func(e *tokenfile.Edit) error {
		if _, err := e.Rotate("pump-7", time.Hour); err != nil {
			return err
		}
		_, err := e.Disable("pump-9")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.sql("SELECT is_superuser, attrs, not_before, expires_at IS NULL FROM mqtt_auth_proxy.tokens WHERE subject = 'pump-7' AND username IS NULL ORDER BY number"); got !=
		"t|{\"new\": true, \"floor\": 2}|-infinity|f\nt|{\"new\": \"true\", \"floor\": \"2\"}||t" {
		t.Errorf("after rotating, the rows are\n%s", got)
	}
	if got := d.sql("SELECT acl_no_match, expires_at, disabled FROM mqtt_auth_proxy.tokens WHERE token_id = 't-9'"); got != "defer|-infinity|t" {
		t.Errorf("after disabling, the row is %s", got)
	}
}

// TestFaultyRow: a row that no token file could have is named, and does not get in the way of the
// others.
func TestFaultyRow(t *testing.T) {
	d, table := newTable(t)
	d.sql(`UPDATE mqtt_auth_proxy.tokens SET limits = '{"rate": 1}' WHERE token_id = 't-8'`)
	n := 0
	err := table.Each(t.Context(), tokenfile.All(), func(tokenfile.Entry, []byte) error { n++; return nil })
	if n != 4 || err == nil || !strings.Contains(err.Error(), `the row with token_id "t-8": limits: `) {
		t.Errorf("%d are listed, %v", n, err)
	}
	revoke := func(name string) error {
		return table.Update(t.Context(), scopeOf(name), func(e *tokenfile.Edit) error { _, err := e.Revoke(name); return err })
	}
	if err := revoke("pump-7"); err != nil {
		t.Errorf("another device: %v", err)
	}
	if err := revoke("pump-8"); err == nil || !strings.Contains(err.Error(), `the row with token_id "t-8": limits: `) {
		t.Errorf("the device: %v", err)
	}
	if left := d.sql("SELECT string_agg(token_id, ' ' ORDER BY number) FROM mqtt_auth_proxy.tokens"); left != "t-8 t-9 t-10" {
		t.Errorf("left are %s", left)
	}
}

// TestUpdateIsWhole: after an error nothing has changed, whether the edit, the rules of the table
// or those of the source refuse a part of it.
func TestUpdateIsWhole(t *testing.T) {
	d, table := newTable(t)
	d.sql("ALTER TABLE mqtt_auth_proxy.tokens ADD CONSTRAINT no_gates CHECK (subject <> 'gate')")
	const rows = "SELECT * FROM mqtt_auth_proxy.tokens ORDER BY number"
	before, mine := d.sql(rows), errors.New("mine")
	for name, c := range map[string]struct {
		change func(e *tokenfile.Edit) error
		want   string
	}{
		"the edit": {func(e *tokenfile.Edit) error { return mine }, "mine"},
		"the source": {func(e *tokenfile.Edit) error {
			_, err := e.Create(tokenfile.CreateOptions{Name: "new", Attrs: map[string]string{"a": strings.Repeat("x", 5000)}})
			return err
		}, `"new": the database could not be read with it: column attrs: `},
		"the table": {func(e *tokenfile.Edit) error {
			_, err := e.Create(tokenfile.CreateOptions{Name: "gate"})
			return err
		}, "a value breaks the rule no_gates of the table"},
		"a token outside of the scope": {func(e *tokenfile.Edit) error {
			_, err := e.Create(tokenfile.CreateOptions{Name: "new", Token: authz.NewToken("Good-token-of-bound")})
			return err
		}, "at the same time; try again"},
	} {
		err := table.Update(t.Context(), scopeOf("pump-7", "new", "gate"), func(e *tokenfile.Edit) error {
			if _, err := e.Revoke("pump-7"); err != nil {
				return err
			}
			return c.change(e)
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if after := d.sql(rows); after != before {
			t.Errorf("%s: the rows are\n%s", name, after)
		}
	}
}

// TestServerThatAcceptsNoChanges: the error of an edit says why it cannot be made.
func TestServerThatAcceptsNoChanges(t *testing.T) {
	d, table := newTable(t)
	d.sql("REVOKE DELETE ON mqtt_auth_proxy.tokens FROM " + harness.Role)
	revoke := func() error {
		return table.Update(t.Context(), scopeOf("pump-7"), func(e *tokenfile.Edit) error { _, err := e.Revoke("pump-7"); return err })
	}
	if err := revoke(); err == nil || !strings.Contains(err.Error(), "database: its role lacks a right") {
		t.Errorf("without the right: %v", err)
	}
	d.sql("GRANT DELETE ON mqtt_auth_proxy.tokens TO " + harness.Role + "; ALTER ROLE " + harness.Role + " SET default_transaction_read_only = on")
	if err := revoke(); err == nil || !strings.Contains(err.Error(), "database: it is read-only, as a standby is") {
		t.Errorf("with a server that only reads: %v", err)
	}
	n := 0
	if err := table.Each(t.Context(), tokenfile.All(), func(tokenfile.Entry, []byte) error { n++; return nil }); err != nil || n != 5 {
		t.Errorf("%d rows are listed, %v", n, err)
	}
}

// TestEditsTakeTurns: of two edits that make the same device, one finds that of the other.
func TestEditsTakeTurns(t *testing.T) {
	_, table := newTable(t)
	first, errs := make(chan struct{}), make(chan error, 2)
	create := func(e *tokenfile.Edit) error {
		_, err := e.Create(tokenfile.CreateOptions{Name: "new", New: true})
		return err
	}
	go func() {
		errs <- table.Update(t.Context(), scopeOf("new"), func(e *tokenfile.Edit) error {
			close(first)
			return create(e)
		})
	}()
	<-first
	second := table.Update(t.Context(), scopeOf("new"), create)
	if err := <-errs; err != nil || !errors.Is(second, tokenfile.ErrExists) {
		t.Errorf("the first: %v; the second: %v", err, second)
	}
}

// TestTableThroughPgBouncer: edits work through a pooler in transaction mode.
func TestTableThroughPgBouncer(t *testing.T) {
	d, _ := newTable(t)
	dsn := t.TempDir() + "/dsn"
	harness.WriteFile(t, dsn, d.server.StartPgBouncer(t, d.name))
	table, err := OpenTable(dsn)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := table.Update(t.Context(), scopeOf("pump-7"), func(e *tokenfile.Edit) error { _, err := e.Rotate("pump-7", time.Hour); return err }); err != nil {
			t.Error(err)
		}
	}
	if n := d.sql("SELECT count(*) FROM mqtt_auth_proxy.tokens WHERE subject = 'pump-7' AND username IS NULL"); n != "6" {
		t.Errorf("%s tokens", n)
	}
}
