package tokenpostgres

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// Table is the table of tokens in the schema that [Migrate] makes. Its edits are those of a token
// file, see package tokenfile: only the entries in their scope are loaded, and what has changed is
// written back in one transaction. It is made by [OpenTable].
type Table struct {
	dsn     *pgdsn.File
	columns map[string]column
}

// OpenTable returns the table in the database of the connection string. It does not connect.
func OpenTable(dsnFile string) (*Table, error) {
	dsn, err := pgdsn.Open(dsnFile)
	if err != nil {
		return nil, err
	}
	return &Table{dsn: dsn, columns: columns()}, nil
}

// Each calls do with the entries in the scope, in the order in which they were added, each with
// its line, as [tokenfile.Each] does. Rows that break the rules of a token file are left out; the
// error names the first of them, once do was called with all others.
func (t *Table) Each(ctx context.Context, s tokenfile.Scope, do func(e tokenfile.Entry, line []byte) error) error {
	where, args := condition(s)
	return t.inTransaction(ctx, "BEGIN READ ONLY", func(conn *pgx.Conn) error {
		var r entryReader
		err := r.each(ctx, conn, " WHERE "+where+" ORDER BY number", args, do)
		if err == nil && len(r.faults) > 0 {
			err = errors.New(strings.Join(r.faults, "\n"))
		}
		return err
	})
}

// entryReader reads entries from rows. Its faults name the first of the rows that break the rules
// of a token file, which are left out, and last is the id of the last row.
type entryReader struct {
	lines  tokenfile.LineReader
	faults []string
	last   string
}

// each calls do with the entries that the rest of the statement selects.
func (x *entryReader) each(ctx context.Context, conn *pgx.Conn, rest string, args []any, do func(e tokenfile.Entry, line []byte) error) error {
	return eachRow(ctx, conn, rest, args, func(r *storedRow) error {
		x.last = r.id
		e, err := x.lines.Entry(r.line)
		if err == nil && (e.ACL != nil || r.superuser) {
			e.ACL, err = r.acl(e.ACL)
		}
		if err != nil {
			if len(x.faults) < maxFaults {
				x.faults = append(x.faults, fmt.Sprintf("the row with token_id %q: %s", r.id, err))
			}
			return nil
		}
		return do(e, r.line)
	})
}

// maxFaults is how many faulty rows an error names.
const maxFaults = 20

// Update calls change with an edit of the entries in the scope and writes what it has changed. The
// edit may look up nothing else. After an error of change, or if a Source could not read the
// result, nothing is changed. Edits of several programs take turns.
func (t *Table) Update(ctx context.Context, s tokenfile.Scope, change func(*tokenfile.Edit) error) error {
	return t.inTransaction(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock("+editLock+")", func(conn *pgx.Conn) error {
		var lines bytes.Buffer
		loaded := make(map[string]*storedRow)
		var ids []string // by the number of the line
		where, args := condition(s)
		err := eachRow(ctx, conn, " WHERE "+where+" ORDER BY number FOR UPDATE OF tokens", args, func(r *storedRow) error {
			lines.Write(r.line)
			lines.WriteByte('\n')
			loaded[r.id], r.line = r, nil
			ids = append(ids, r.id)
			return nil
		})
		if err != nil {
			return err
		}
		changes, err := tokenfile.EditLines(lines.Bytes(), s, change)
		if broken, ok := errors.AsType[*tokenfile.FormatError](err); ok && broken.Path == "" {
			fault := broken.Faults[0]
			return fmt.Errorf("the row with token_id %q: %w; correct it with SQL", ids[fault.Line-1], &fault)
		}
		if err != nil {
			return err
		}
		w := &tableWriter{conn: conn, changes: changes, loaded: loaded}
		if err := w.write(ctx); err != nil {
			return err
		}
		return t.verify(ctx, conn, w.written)
	})
}

// editLock is the number of the advisory lock under which edits take turns.
const editLock = "1836151925"

// inTransaction connects and calls do in a transaction, which it commits unless do returns an
// error.
func (t *Table) inTransaction(ctx context.Context, begin string, do func(*pgx.Conn) error) error {
	c := configOf(t.dsn)
	// Statements are described and run in one transaction, and have no names. So a pooler may
	// stand in between.
	c.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("database: %w", connectFault(err))
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // without a commit, the server rolls back
	if err := checkVersion(ctx, conn); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	statement := func(sql string) error {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		return tableError(ctx, err)
	}
	if err := statement(begin); err != nil {
		return err
	}
	if err := do(conn); err != nil {
		return err
	}
	return statement("COMMIT")
}

// tableError describes why a statement failed, without any value.
func tableError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refused.Code {
		case "23505":
			return errors.New("database: another program has added the same id, token or user name at the same time; try again")
		case "23514":
			return fmt.Errorf("database: a value breaks the rule %s of the table", refused.ConstraintName)
		}
		return errors.New("database: " + pgdsn.Reason(refused))
	}
	return fmt.Errorf("database: %w", queryError(ctx, err))
}

// storedRow is a row of the table. Its line has everything but what only the table has.
type storedRow struct {
	id        string
	line      []byte
	noMatch   *string
	superuser bool
}

// acl returns the topic rules of the row, with what its line does not say.
func (r *storedRow) acl(rules *authz.ACL) (*authz.ACL, error) {
	if r.superuser {
		return authz.NewACL(authz.DeferRest)
	}
	if r.noMatch == nil {
		return rules, nil
	}
	var fields struct {
		ACL json.RawMessage `json:"acl"`
	}
	if err := json.Unmarshal(r.line, &fields); err != nil {
		return nil, err
	}
	whole := row{rules: fields.ACL}
	if err := setRest(&whole.rest, value{text: *r.noMatch}); err != nil {
		return nil, err
	}
	return whole.acl()
}

//go:embed lines.sql
var linesSQL string

// eachRow calls do with the rows that the rest of the statement selects.
func eachRow(ctx context.Context, conn *pgx.Conn, rest string, args []any, do func(*storedRow) error) error {
	rows, err := conn.Query(ctx, linesSQL+rest, args...)
	if err != nil {
		return tableError(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		r := &storedRow{}
		var line []byte
		if err := rows.Scan(&r.id, &r.noMatch, &r.superuser, &line); err != nil {
			return errors.New("database: a row cannot be read")
		}
		// The server has spaces in its JSON, a line has none.
		var compact bytes.Buffer
		if err := json.Compact(&compact, line); err != nil {
			return errors.New("database: a row has JSON that cannot be read")
		}
		r.line = compact.Bytes()
		if err := do(r); err != nil {
			return err
		}
	}
	return tableError(ctx, rows.Err())
}

// condition returns the condition for the rows in the scope, and its parameters.
func condition(s tokenfile.Scope) (where string, args []any) {
	if s.Pattern == "*" {
		return "true", nil
	}
	var either []string
	add := func(format string, arg any) {
		args = append(args, arg)
		either = append(either, strings.ReplaceAll(format, "$", fmt.Sprintf("$%d", len(args))))
	}
	if len(s.Names) > 0 {
		add("token_id = ANY($::text[]) OR subject = ANY($::text[])", storable(s.Names))
	}
	if s.Pattern != "" && len(storable([]string{s.Pattern})) > 0 {
		add("token_id LIKE $::text OR subject LIKE $::text", likeOf(s.Pattern))
	}
	if len(s.Tokens) > 0 {
		hashes := make([][]byte, len(s.Tokens))
		for i := range s.Tokens {
			hashes[i] = s.Tokens[i][:]
		}
		add("token_sha256 = ANY($::bytea[])", hashes)
	}
	if len(s.Usernames) > 0 {
		add("username = ANY($::text[])", storable(s.Usernames))
	}
	if either == nil {
		return "false", nil
	}
	return strings.Join(either, " OR "), args
}

// likeOf returns a pattern of the scope as one of LIKE.
func likeOf(pattern string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`).Replace(pattern)
}

// storable returns the texts that a database can have.
func storable(texts []string) (all []string) {
	for _, text := range texts {
		if utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
			all = append(all, text)
		}
	}
	return all
}
