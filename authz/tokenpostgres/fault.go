package tokenpostgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
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
		return unavailable(transportText(err), true)
	}
	text := codeText(refused.Code)
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
		return unavailable("it refuses the connection: "+codeText(refused.Code), false)
	}
	return unavailable("no connection: "+transportText(err), false)
}

// codeText returns the meaning of a code of the server (appendix A of the PostgreSQL manual).
func codeText(code string) string {
	meaning := map[string]string{
		"28P01": "the password of the connection string is wrong", "28000": "its role may not connect in this way", "3D000": "its database does not exist",
		"42501": "its role lacks a right", "42P01": "a table is missing", "42703": "a column is missing",
		"53300": "there are too many connections", "57P01": "the server shuts down", "57P03": "the server is starting", "57014": "it was canceled, no answer in time",
		"22P02": "a value has the wrong form for a type of the query",
	}[code]
	if meaning == "" {
		return "SQLSTATE " + code
	}
	return meaning + " (SQLSTATE " + code + ")"
}

// transportText describes an error of the network without its address.
func transportText(err error) string {
	var (
		operation *net.OpError
		dns       *net.DNSError
		unknown   x509.UnknownAuthorityError
		hostname  x509.HostnameError
		verify    *tls.CertificateVerificationError
		errno     syscall.Errno
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return "no answer in time"
	case errors.As(err, &dns):
		return "the name of its host cannot be resolved"
	case errors.As(err, &hostname):
		return "its certificate is for another name"
	case errors.As(err, &unknown):
		return "its certificate is signed by an unknown authority"
	case errors.As(err, &verify):
		return "its certificate is not valid"
	case errors.As(err, &operation) && operation.Timeout():
		return "timed out"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return "the connection broke"
}
