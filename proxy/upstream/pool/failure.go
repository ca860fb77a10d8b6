package pool

import (
	"errors"
	"strings"
	"syscall"
	"unicode"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// fault is why one server was of no use.
type fault struct {
	server upstream.Server
	err    error
}

func (f fault) Error() string { return f.server.String() + ": " + f.err.Error() }
func (f fault) Unwrap() error { return f.err }

// failures are the faults of all servers that were tried, one each.
type failures []error

// Error joins them in one line. Names in a foreign certificate get into errors,
// hence the control characters are taken out.
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

// Unwrap lets errors.Is and errors.As see each of them.
func (f failures) Unwrap() []error { return f }

// errPanic is the end of a probe that a bug has ended.
var errPanic = errors.New("internal error")

// ours reports whether a dial failed for want of something in this process or
// machine, or because of a bug.
func ours(err error) bool {
	for _, want := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, errPanic} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}
