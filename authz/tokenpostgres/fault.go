package tokenpostgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
)

// verdictOn returns what an error shows about the database.
func verdictOn(err error) breaker.Verdict {
	if _, ok := errors.AsType[*rowFault](err); ok {
		return breaker.Answered
	}
	if err != nil {
		return breaker.Failing
	}
	return breaker.Decided
}

// isFaultOfQuery reports whether a code of the server, when it describes the query, is about the
// query and not about the server.
func isFaultOfQuery(code string) bool {
	switch code[:min(2, len(code))] {
	case "42", "26", "0A", "22", "21":
		return true
	}
	return false
}

// prepareFault describes why the server refuses the query. No parameter has a value yet, so the
// text of the server contains none.
func prepareFault(e *pgconn.PgError) error {
	if e.Code == "42P05" { // the name of the prepared statement exists already
		return errors.New("query: a pooler such as PgBouncer in transaction mode shares the connection; set prepared_statements: false")
	}
	return fmt.Errorf("query: the server says: %s (SQLSTATE %s)", strings.ToValidUTF8(e.Message, ""), e.Code)
}

// queryError describes why the query failed. It does not contain the text of the server, which
// repeats values.
func queryError(ctx context.Context, err error) error {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok && ctx.Err() != nil, pgconn.Timeout(err):
		return unavailable("no answer in time", false)
	case !ok:
		return unavailable(pgdsn.Reason(err), true)
	}
	text := pgdsn.Reason(refused)
	switch refused.Code[:min(2, len(refused.Code))] {
	case "22", "21": // a value of this device, or its rows
		return &rowFault{"the query fails for this device, " + text}
	case "42", "26", "0A": // the tables have changed, or a pooler has exchanged the connection
		return unavailable("the query is not valid any more, "+text, true)
	}
	outdated := strings.HasPrefix(refused.Code, "57P") || strings.HasPrefix(refused.Code, "08")
	return unavailable(text, outdated)
}

// connectFault describes why there is no connection. It contains nothing of the connection
// string.
func connectFault(err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return unavailable("it refuses the connection: "+pgdsn.Reason(refused), false)
	}
	return unavailable("no connection: "+pgdsn.Reason(err), false)
}
