package cache

import (
	"context"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// maxRecent is how many revocations are remembered. If more come while a request is
// under way, its answer is discarded.
const maxRecent = 1024

// Revoke drops every grant that r names and returns their number. Answers under way that
// r names are discarded, and their callers ask again. Revoke does not end sessions that
// use such a grant already, and does not change what the source answers.
//
// A revocation that names nothing does nothing.
func (c *Cache) Revoke(r authz.Revocation) (entries int) {
	r = r.Canonical()
	if r == everything {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent.add(r)
	for _, s := range c.shards {
		entries += s.evict(r)
	}
	return entries
}

// Purge drops all grants and denials and returns their number. Answers under way are
// discarded.
func (c *Cache) Purge() (entries int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent.add(everything)
	c.cooling = newTimed[key, error](c.options.NegativeSize)
	for _, s := range c.shards {
		entries += s.purge()
	}
	return entries
}

// Notify implements [authz.Notifier] for a source that does: by the time revoked
// is called, the Cache has dropped the grants that the revocation names.
func (c *Cache) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	n, ok := c.source.(authz.Notifier)
	if !ok {
		<-ctx.Done()
		return nil
	}
	return n.Notify(ctx, func(r authz.Revocation) {
		c.Revoke(r)
		revoked(r)
	})
}

// everything is the revocation that names every answer, also a denial.
var everything = authz.Revocation{}

// revocations are the latest ones, numbered from one.
type revocations struct {
	last  uint64 // the number of the latest
	items []authz.Revocation
}

func (l *revocations) add(r authz.Revocation) {
	if len(l.items) == 2*maxRecent {
		l.items = append(l.items[:0], l.items[maxRecent:]...)
	}
	l.items = append(l.items, r)
	l.last++
}

// mean reports whether a revocation after number since names the answer for a token
// with the digest hash; g is nil for an answer that is not a grant. If there were more
// than are remembered, it reports true.
func (l *revocations) mean(g *authz.Grant, hash [32]byte, since uint64) bool {
	n := l.last - since
	if n > maxRecent {
		return true
	}
	for _, r := range l.items[len(l.items)-int(n):] {
		if r == everything || g != nil && r.Matches(g, hash) {
			return true
		}
	}
	return false
}
