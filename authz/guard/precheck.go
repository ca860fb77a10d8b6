package guard

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Format is the form that all tokens of a source have. Zero fields accept everything.
type Format struct {
	// MinLength and MaxLength limit a token's length in bytes.
	MinLength, MaxLength int
	// Charset has the bytes that may occur in a token.
	Charset string
	// Prefixes lists strings; every token begins with one of them.
	Prefixes []string
	// Valid is called last, for rules that the other fields cannot express, such as a checksum.
	// It must be fast, because its result is not cached, and safe for concurrent use. It must
	// not keep the token.
	Valid func(token string) bool
}

// Precheck is an [authz.Authorizer] that asks another one only about tokens that have the
// [Format]. It is made by [NewPrecheck] and safe for concurrent use.
type Precheck struct {
	source   authz.Authorizer
	format   Format
	allowed  [256]bool // the Charset
	rejected atomic.Uint64
}

var (
	_ authz.Authorizer = (*Precheck)(nil)
	_ authz.Notifier   = (*Precheck)(nil)
	_ authz.Taker      = (*Precheck)(nil)
)

// NewPrecheck returns a Precheck for source.
func NewPrecheck(source authz.Authorizer, f Format) *Precheck {
	f.Prefixes = slices.Clone(f.Prefixes)
	p := &Precheck{source: source, format: f}
	for i := range len(f.Charset) {
		p.allowed[f.Charset[i]] = true
	}
	return p
}

// Authorize implements [authz.Authorizer]. A token that does not have the format is denied as
// [authz.Unknown], so that the next source of a chain is asked; the denial must not be cached.
// A request without a token passes, because the format is not that of pairs.
func (p *Precheck) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if fault := p.fault(r.Token.Reveal()); fault != "" && !(r.Token.IsZero() && !r.Pair.IsZero()) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p.rejected.Add(1)
		return nil, &authz.Denial{Reason: authz.Unknown, Detail: fault, Keep: authz.Keep{TTL: -1}}
	}
	return p.source.Authorize(ctx, r)
}

// Notify implements [authz.Notifier] if the source does.
func (p *Precheck) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	return notify(ctx, p.source, revoked)
}

// Takes implements [authz.Taker].
func (p *Precheck) Takes() authz.Credentials { return authz.Takes(p.source) }

// Rejected returns how many tokens were refused because of their form.
func (p *Precheck) Rejected() uint64 { return p.rejected.Load() }

// fault returns why token cannot be valid, or "". It does not repeat any of it.
func (p *Precheck) fault(token string) string {
	f := &p.format
	switch {
	case len(token) < f.MinLength:
		return "the token is too short"
	case f.MaxLength > 0 && len(token) > f.MaxLength:
		return "the token is too long"
	case len(f.Prefixes) > 0 && !slices.ContainsFunc(f.Prefixes, func(s string) bool { return strings.HasPrefix(token, s) }):
		return "the token has no known prefix"
	case f.Charset != "" && !p.spelled(token):
		return "the token has a character that no token has"
	case f.Valid != nil && !f.Valid(token):
		return "the token's checksum or signature is wrong"
	}
	return ""
}

func (p *Precheck) spelled(token string) bool {
	for i := range len(token) {
		if !p.allowed[token[i]] {
			return false
		}
	}
	return true
}
