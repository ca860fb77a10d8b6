package tokenhttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// fault is an error of a call, for the breaker.
type fault struct {
	err error
	// blameless means that the service works: its answer was about what one device sent, or the
	// caller gave up.
	blameless bool
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// statusFault returns the error for a status that decides nothing. It does not contain the
// service's own text for the status code.
func statusFault(status int) error {
	text := fmt.Sprintf("it answers %d %s", status, http.StatusText(status))
	switch {
	case status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", authz.ErrBusy, text)
	case status == http.StatusUnauthorized:
		text = "it rejects the proxy's own credential (401)"
	case status == http.StatusNotFound:
		text += ": check the url"
	case 300 <= status && status < 400:
		text += ": redirects are not followed, check the url"
	}
	return &fault{err: errors.New(text), blameless: 400 <= status && status < 500}
}

// transportFault describes err without the text of net/http, which may contain the URL, or
// lines of an answer that repeats the request.
func transportFault(err error) error {
	var (
		operation *net.OpError
		dns       *net.DNSError
		record    tls.RecordHeaderError
		verify    *tls.CertificateVerificationError
		unknown   x509.UnknownAuthorityError
		hostname  x509.HostnameError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &dns):
		return errors.New("its name cannot be resolved: " + dns.Err)
	case errors.As(err, &hostname):
		return errors.New("its certificate is for another name")
	case errors.As(err, &unknown):
		return errors.New("its certificate is signed by an unknown authority")
	case errors.As(err, &verify):
		return errors.New("its certificate is not valid")
	case errors.As(err, &record):
		return errors.New("it does not speak TLS")
	case errors.As(err, &operation) && operation.Timeout():
		return fmt.Errorf("%s: timed out", operation.Op)
	case errors.As(err, &operation):
		return fmt.Errorf("%s: %s", operation.Op, errnoText(operation.Err))
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errors.New("it reset the connection")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("it closed the connection within the answer or before it")
	}
	return errors.New("its answer is not HTTP, or the connection broke")
}

func errnoText(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return "the TLS handshake failed"
	}
	return "the connection broke"
}

// retryable reports whether a second attempt may succeed, because the connection was not
// established, or was closed before any of the answer had arrived.
func retryable(err error) bool {
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Op == "dial" {
		return true
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}
