package tokenpostgres

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// tableWriter writes the changes of an edit.
type tableWriter struct {
	conn    *pgx.Conn
	changes *tokenfile.Changes
	loaded  map[string]*storedRow
	written []string // ids of rows that are new or have other values
}

// rowColumns returns the columns that valuesOf has values for.
func rowColumns() []string {
	return []string{
		"token_id", "subject", "token_sha256", "username", "password_hash", "disabled", "expires_at", "not_before",
		"client_ids", "usernames", "certificates", "cidrs", "role", "gateway", "acl", "limits", "attrs",
		"upstream_username", "upstream_password", "upstream_client_id", "created_at", "comment",
	}
}

// valuesOf returns the values of a row, in the order of rowColumns.
func valuesOf(r *tokenfile.Row) []any {
	var hash []byte
	var username *string
	usernames := r.Only.Usernames
	if r.Password {
		username, usernames = &usernames[0], nil
	} else {
		hash = r.TokenHash[:]
	}
	created := r.Created
	if created.IsZero() {
		created = time.Now()
	}
	return []any{
		r.ID, r.Subject, hash, username, textOrNull(r.PasswordHash), r.Disabled, timeOrNull(r.Expires), timeOrNull(r.Only.NotBefore),
		r.Only.ClientIDs, usernames, r.Only.Certificates, r.Only.Addrs, r.Role.String(), r.Gateway, jsonOrNull(r.RawACL), jsonOrNull(r.RawLimits), attrsOrNull(r.Attrs),
		textOrNull(r.Upstream.Username), textOrNull(r.Upstream.Password.Reveal()), textOrNull(r.Upstream.ClientID), created, textOrNull(r.Comment),
	}
}

func textOrNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func jsonOrNull(raw []byte) *string { return textOrNull(string(raw)) }

func attrsOrNull(attrs map[string]string) *string {
	if len(attrs) == 0 {
		return nil
	}
	raw, _ := json.Marshal(attrs) // strings cannot fail
	return jsonOrNull(raw)
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// write writes all changes: first what is removed, because new entries may have its tokens.
func (w *tableWriter) write(ctx context.Context) error {
	for ids := range slices.Chunk(w.changes.Removed, rowsAtOnce) {
		if err := w.exec(ctx, len(ids), "DELETE FROM mqtt_auth_proxy.tokens WHERE token_id = ANY($1::text[])", ids); err != nil {
			return err
		}
	}
	if err := w.update(ctx); err != nil {
		return err
	}
	return w.insert(ctx)
}

// exec runs a statement that concerns a number of rows, and returns an error if it has changed
// another number.
func (w *tableWriter) exec(ctx context.Context, rows int, sql string, args ...any) error {
	tag, err := w.conn.Exec(ctx, sql, args...)
	if err != nil {
		return tableError(ctx, err)
	}
	if n := tag.RowsAffected(); n != int64(rows) {
		return fmt.Errorf("database: %d of %d rows can be changed; is there a policy or a trigger that forbids it?", n, rows)
	}
	return nil
}

// sameChange is a set of rows that get the same values in the same columns.
type sameChange struct {
	columns []string
	values  []any
	ids     []string
	numbers []*int64 // of the rows that become the last ones; nil for the others
}

// update changes only the columns whose values differ, so that a row keeps what no entry of a file
// has. One statement serves all rows that change in the same way, such as those that are disabled.
func (w *tableWriter) update(ctx context.Context) error {
	next, err := w.nextNumbers(ctx)
	if err != nil {
		return err
	}
	var order []*sameChange
	byValues := make(map[string]*sameChange)
	for i := range w.changes.Changed {
		change := &w.changes.Changed[i]
		c := differences(change)
		var number *int64
		if change.Moved {
			number, next = &next[0], next[1:]
		} else if len(c.columns) == 0 {
			continue
		}
		key, err := json.Marshal([]any{c.columns, c.values})
		if err != nil {
			return err
		}
		if byValues[string(key)] == nil {
			byValues[string(key)] = c
			order = append(order, c)
		}
		c = byValues[string(key)]
		c.ids, c.numbers = append(c.ids, change.New.ID), append(c.numbers, number)
		w.written = append(w.written, change.New.ID)
	}
	for _, c := range order {
		if err := w.updateAll(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// nextNumbers returns a number for each row that becomes one of the last.
func (w *tableWriter) nextNumbers(ctx context.Context) ([]int64, error) {
	moved := 0
	for i := range w.changes.Changed {
		if w.changes.Changed[i].Moved {
			moved++
		}
	}
	if moved == 0 {
		return nil, nil
	}
	rows, err := w.conn.Query(ctx, "SELECT nextval(pg_get_serial_sequence('mqtt_auth_proxy.tokens', 'number')) FROM generate_series(1, $1::integer)", moved)
	if err != nil {
		return nil, tableError(ctx, err)
	}
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return numbers, tableError(ctx, err)
}

// updateAll makes the same change of several rows.
func (w *tableWriter) updateAll(ctx context.Context, c *sameChange) error {
	sql := "UPDATE mqtt_auth_proxy.tokens SET "
	for i, name := range c.columns {
		sql += fmt.Sprintf("%s = $%d, ", name, i+3)
	}
	sql += "number = coalesce(change.number, tokens.number) FROM unnest($1::text[], $2::bigint[]) AS change (id, number) WHERE token_id = change.id"
	for len(c.ids) > 0 {
		n := min(len(c.ids), rowsAtOnce)
		if err := w.exec(ctx, n, sql, append([]any{c.ids[:n], c.numbers[:n]}, c.values...)...); err != nil {
			return err
		}
		c.ids, c.numbers = c.ids[n:], c.numbers[n:]
	}
	return nil
}

// differences returns the columns whose values differ, with the new ones.
func differences(change *tokenfile.Change) *sameChange {
	c := &sameChange{}
	old, now := valuesOf(&change.Old), valuesOf(&change.New)
	for i, name := range rowColumns() {
		if !reflect.DeepEqual(old[i], now[i]) {
			c.columns, c.values = append(c.columns, name), append(c.values, now[i])
		}
	}
	return c
}

// insert adds the new rows.
func (w *tableWriter) insert(ctx context.Context) error {
	if len(w.changes.Added) == 0 {
		return nil
	}
	into := append(rowColumns(), "acl_no_match", "is_superuser")
	rows := pgx.CopyFromSlice(len(w.changes.Added), func(i int) ([]any, error) {
		r := &w.changes.Added[i]
		model := w.loaded[r.SuccessorOf]
		if model == nil {
			model = &storedRow{}
		}
		w.written = append(w.written, r.ID)
		return append(valuesOf(r), model.noMatch, model.superuser), nil
	})
	_, err := w.conn.CopyFrom(ctx, pgx.Identifier{"mqtt_auth_proxy", "tokens"}, into, rows)
	return tableError(ctx, err)
}

// verify returns an error if one of the rows is not as a Source needs it.
func (t *Table) verify(ctx context.Context, conn *pgx.Conn, ids []string) error {
	return eachRowOf(ctx, conn, schemaRows+" WHERE token_id = ANY($1::text[])", ids, t.checkRow)
}

// checkRow checks that a Source could read the row.
func (t *Table) checkRow(cells []cell) error {
	r, err := readRow(t.columns, cells)
	if err == nil {
		_, err = r.acl()
	}
	if err == nil && r.hash != nil {
		_, err = passwordhash.Parse(*r.hash)
	}
	if err != nil {
		name := ""
		for _, c := range cells {
			if c.name == "subject" {
				name = string(c.text)
			}
		}
		return fmt.Errorf("%q: the database could not be read with it: %w", name, err)
	}
	return nil
}
