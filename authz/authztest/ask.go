package authztest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// outcome is one of the three answers.
type outcome string

const (
	granted     outcome = "granted"
	denied      outcome = "denied"
	unavailable outcome = "unavailable"
	malformed   outcome = "malformed" // already reported by ask
)

// answer is an Authorizer's answer to one request.
type answer struct {
	outcome outcome
	grant   *authz.Grant
	err     error
}

// ask sends r to a and checks the rules for all answers: exactly one of grant and error, of one
// kind, without a secret, and no panic.
func ask(ctx context.Context, tb testing.TB, a authz.Authorizer, r authz.Request) (got answer) {
	tb.Helper()
	got.outcome = malformed
	defer func() {
		if p := recover(); p != nil {
			tb.Errorf("Authorize panicked with a %T", p)
		}
	}()
	got.grant, got.err = a.Authorize(ctx, r)
	switch {
	case got.grant == nil && got.err == nil:
		tb.Error("Authorize returned neither a grant nor an error")
		return got
	case got.grant != nil && got.err != nil:
		tb.Error("Authorize returned a grant and an error")
		return got
	case got.err == nil:
		got.outcome = granted
		if mentionsAny(fmt.Sprintf("%+v", *got.grant), r) {
			tb.Error("the grant mentions the token or the password")
		}
		return got
	case slices.ContainsFunc(texts(got.err), func(text string) bool { return mentionsAny(text, r) }):
		tb.Error("the error mentions the token or the password")
		got.err = errors.New("(a text that mentions the secret)")
		return got
	}
	got.outcome = kindOf(tb, got.err)
	return got
}

// kindOf returns whether err is a denial or unavailable, and reports an error that is both.
func kindOf(tb testing.TB, err error) outcome {
	tb.Helper()
	if !errors.Is(err, authz.ErrDenied) {
		if errors.Is(err, authz.ErrUnknown) {
			tb.Error("the error is ErrUnknown without being ErrDenied")
		}
		return unavailable
	}
	if errors.Is(err, authz.ErrUnavailable) {
		tb.Error("the error is both ErrDenied and ErrUnavailable")
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		tb.Error("the end of a context was turned into a denial")
	}
	return denied
}

// shortestSecret is the length in bytes from which a secret is searched for.
const shortestSecret = 8

// texts returns every way in which err, or an error that it wraps, may be printed.
func texts(err error) []string {
	var all []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		all = append(all, fmt.Sprintf(verb, err))
	}
	switch inner := err.(type) {
	case interface{ Unwrap() error }:
		if e := inner.Unwrap(); e != nil {
			all = append(all, texts(e)...)
		}
	case interface{ Unwrap() []error }:
		for _, e := range inner.Unwrap() {
			all = append(all, texts(e)...)
		}
	}
	return all
}

func mentionsAny(text string, r authz.Request) bool {
	return mentions(text, r.Token) || mentions(text, r.Password) || mentions(text, r.Pair.Password)
}

// mentions reports whether text contains the secret or, if it is longer, its first or last
// twelve bytes, in plain text or in a common encoding.
func mentions(text string, secret authz.Token) bool {
	s := secret.Reveal()
	if len(s) < shortestSecret {
		return false
	}
	parts := []string{s}
	if len(s) > 16 {
		parts = []string{s[:12], s[len(s)-12:]}
	}
	lower := strings.ToLower(text)
	for _, p := range parts {
		quoted := fmt.Sprintf("%q", p)
		if strings.Contains(text, p) || strings.Contains(text, quoted[1:len(quoted)-1]) ||
			strings.Contains(lower, hex.EncodeToString([]byte(p))) {
			return true
		}
	}
	// Base64 writes three bytes as four, so the encoding of a prefix of whole triples does not
	// depend on what follows it.
	head := []byte(parts[0])[:len(parts[0])/3*3]
	return strings.Contains(text, base64.StdEncoding.EncodeToString(head)) ||
		strings.Contains(text, base64.URLEncoding.EncodeToString(head))
}
