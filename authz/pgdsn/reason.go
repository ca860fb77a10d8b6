package pgdsn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Reason describes an error of package pgx. The text reads well after the name of the database. It
// contains nothing of the connection string and nothing that the server has written, because that
// may repeat values.
func Reason(err error) string {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return codeText(refused.Code)
	}
	return transportText(err)
}

// codeText returns the meaning of a code of the server (appendix A of the PostgreSQL manual).
func codeText(code string) string {
	meaning := map[string]string{
		"28P01": "the password of the connection string is wrong", "28000": "its role may not connect in this way", "3D000": "its database does not exist",
		"42501": "its role lacks a right", "42P01": "a table is missing", "42703": "a column is missing",
		"53300": "there are too many connections", "57P01": "the server shuts down", "57P03": "the server is starting", "57014": "it did not finish in time and was canceled",
		"22P02": "a value has the wrong form for a type of the query", "25006": "it is read-only, as a standby is",
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
