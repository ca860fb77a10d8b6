package service

import (
	"context"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// cachedSource is a source behind a cache, which combines equal questions of several
// connections, and behind a check of the token's form.
type cachedSource struct {
	source
	answers *cache.Cache
	form    *guard.Precheck
}

// cached puts a source of any kind behind a cache and a check of the token's form. The caller
// sets the options that are specific to the source: Source, Vary, Timeout, Concurrency. The
// others are the same for all cached sources and come from the configuration.
func cached(s source, auth config.Auth, o cache.Options) *cachedSource {
	c := auth.Cache
	o.Size, o.NegativeSize = c.Size, c.NegativeSize
	o.TTL, o.NegativeTTL, o.Stale = c.TTL, c.NegativeTTL, c.StaleIfError
	o.RefreshAhead = c.RefreshAhead
	answers := cache.New(s, o)
	return &cachedSource{source: s, answers: answers, form: guard.NewPrecheck(answers, tokenFormat(auth.Guard))}
}

// Unwrap returns the source behind the cache.
func (c *cachedSource) Unwrap() source { return c.source }

// Authorize implements authz.Authorizer.
func (c *cachedSource) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	return c.form.Authorize(ctx, r)
}

// Notify implements authz.Notifier.
func (c *cachedSource) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	return c.form.Notify(ctx, revoked)
}

// Revoke implements rememberer.
func (c *cachedSource) Revoke(r authz.Revocation) int { return c.answers.Revoke(r) }

// Purge implements rememberer.
func (c *cachedSource) Purge() int { return c.answers.Purge() }

// Collect implements source.
func (c *cachedSource) Collect(m observe.SourceMetrics) {
	c.source.Collect(m)
	m.Cache(c.answers.Stats(), c.form.Rejected())
}

// Close implements source.
func (c *cachedSource) Close() {
	c.answers.Close()
	c.source.Close()
}

// tokenFormat returns the form of the tokens of cached sources.
func tokenFormat(g config.Guard) guard.Format {
	f := guard.Format{MinLength: g.MinLength, MaxLength: g.MaxLength, Charset: g.Charset}
	if g.Checksum {
		f.Valid = tokenfile.WellFormed
	}
	if g.Prefix != "" {
		f.Prefixes = []string{g.Prefix}
	}
	return f
}
