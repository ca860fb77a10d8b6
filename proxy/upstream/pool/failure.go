package pool

import (
	"errors"
	"strings"
	"syscall"
	"unicode"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// fault says why an attempt with one server failed.
type fault struct {
	server upstream.Server
	err    error
}

func (f fault) Error() string { return f.server.String() + ": " + f.err.Error() }
func (f fault) Unwrap() error { return f.err }

// failures has the faults of all servers that were tried, one for each.
type failures []error

// Error joins the errors in one line. It removes control characters, because the names in a
// broker's certificate become part of the errors.
func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, strings.Join(texts, "; "))
}

// Unwrap lets errors.Is and errors.As see each error.
func (f failures) Unwrap() []error { return f }

// errPanic is the result of a probe that ended in a panic.
var errPanic = errors.New("internal error")

// ours reports whether a dial failed because of this process or machine: it lacks a resource,
// or it has a bug.
func ours(err error) bool {
	for _, want := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, errPanic} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}
