package tokenpostgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// Page returns a page of the entries that a query selects. Only its rows are read; the database
// counts the others. Rows that break the rules of a token file are in Page.Faults. If there is no
// entry Query.After, the error is [tokenfile.ErrNotFound].
func (t *Table) Page(ctx context.Context, q tokenfile.Query) (page tokenfile.Page, err error) {
	const begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" // so that the page and the count agree
	err = t.inTransaction(ctx, begin, func(conn *pgx.Conn) error {
		s := &selection{}
		if err := s.behind(ctx, conn, q.After); err != nil {
			return err
		}
		s.add(q)
		where := s.where()
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM mqtt_auth_proxy.tokens WHERE "+where, s.args...).Scan(&page.Total); err != nil {
			return tableError(ctx, err)
		}
		window := where + " ORDER BY number OFFSET " + s.param(q.First)
		if q.Limit > 0 { // the rows that are left out need not become lines
			window = "number = ANY(ARRAY(SELECT number FROM mqtt_auth_proxy.tokens WHERE " + window + " LIMIT " + s.param(q.Limit) + ")) ORDER BY number"
		}
		var r entryReader
		err := r.each(ctx, conn, " WHERE "+window, s.args, func(e tokenfile.Entry, _ []byte) error {
			page.Entries = append(page.Entries, e)
			return nil
		})
		page.Faults, page.Last = r.faults, r.last
		return err
	})
	return page, err
}

// selection is the condition of a query, and its parameters.
type selection struct {
	all  []string
	args []any
}

// param adds a parameter and returns its name.
func (s *selection) param(value any) string {
	s.args = append(s.args, value)
	return fmt.Sprintf("$%d", len(s.args))
}

// where returns the condition.
func (s *selection) where() string { return strings.Join(append(s.all, "true"), " AND ") }

// text selects rows by a condition about a text. No row has a text that a database cannot have.
func (s *selection) text(condition, text string) {
	if len(storable([]string{text})) == 0 {
		s.all = append(s.all, "false")
		return
	}
	s.all = append(s.all, strings.ReplaceAll(condition, "$", s.param(text)+"::text"))
}

// behind selects the rows that were added after the one with that id.
func (s *selection) behind(ctx context.Context, conn *pgx.Conn, id string) error {
	if id == "" {
		return nil
	}
	rows, err := conn.Query(ctx, "SELECT number FROM mqtt_auth_proxy.tokens WHERE token_id = ANY($1::text[])", storable([]string{id}))
	if err != nil {
		return tableError(ctx, err)
	}
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	switch {
	case err != nil:
		return tableError(ctx, err)
	case len(numbers) == 0:
		return fmt.Errorf("%w: %q", tokenfile.ErrNotFound, id)
	}
	s.all = append(s.all, "number > "+s.param(numbers[0]))
	return nil
}

// add selects what the query selects, except by Query.After.
func (s *selection) add(q tokenfile.Query) {
	if q.ID != "" {
		s.text("token_id = $", q.ID)
	}
	if q.Subject != "" {
		s.text("subject = $", q.Subject)
	}
	if q.Pattern != "" && q.Pattern != "*" {
		s.text("(token_id LIKE $ OR subject LIKE $)", likeOf(q.Pattern))
	}
	if q.ExpiresWithin > 0 {
		s.all = append(s.all, "expires_at > "+s.param(q.Now)+" AND expires_at <= "+s.param(q.Now.Add(q.ExpiresWithin)))
	}
	switch q.State {
	case "":
	case tokenfile.Disabled:
		s.all = append(s.all, "disabled")
	default:
		s.addStateOf(q)
	}
}

// addStateOf selects the rows that are not disabled and in the state of the query.
func (s *selection) addStateOf(q tokenfile.Query) {
	now := s.param(q.Now) + "::timestamptz"
	ended, pending := "coalesce(expires_at <= "+now+", false)", "coalesce(not_before > "+now+", false)"
	s.all = append(s.all, "NOT disabled")
	switch q.State {
	case tokenfile.Expired:
		s.all = append(s.all, ended)
	case tokenfile.NotYetValid:
		s.all = append(s.all, "NOT "+ended, pending)
	default:
		s.all = append(s.all, "NOT "+ended, "NOT "+pending)
	}
}
