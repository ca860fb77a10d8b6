package cache

import (
	"context"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// maxRecent is how many revocations are stored. If more happen during a request, its answer is
// discarded.
const maxRecent = 1024

// Revoke removes every grant that r names and returns their number. It discards the answers of
// requests in progress that r names, and their callers ask again. Revoke does not end sessions
// that already use such a grant, and does not change the answers of the source.
//
// A revocation that names nothing has no effect.
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

// Purge removes all grants and denials and returns their number. It discards the answers of
// requests in progress.
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

// Notify implements [authz.Notifier] if the source does. When it calls revoked, the Cache has
// already removed the grants that the revocation names.
func (c *Cache) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	n, ok := c.source.(authz.Notifier)
	if !ok {
		<-ctx.Done()
		return nil
	}
	return n.Notify(ctx, func(r authz.Revocation) {
		if c.hasBeenUsed() {
			c.Revoke(r)
			if c.options.Watched {
				c.dropDenials()
			}
		}
		revoked(r)
	})
}

// hasBeenUsed reports whether the source has been asked. Until then there is nothing to remove,
// which matters for a source that withdraws a million tokens about which it is not asked here.
func (c *Cache) hasBeenUsed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// dropDenials drops all denials, since the source would decide otherwise about some of them
// now. Denials under way are discarded, see Cache.store.
func (c *Cache) dropDenials() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.shards {
		s.dropDenials()
	}
}

// everything is the revocation that names every answer, including denials.
var everything = authz.Revocation{}

// revocations has the latest revocations, numbered from one.
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

// mean reports whether a revocation after number since names the answer for a token with the
// digest hash. g is nil for an answer that is not a grant. If some of those revocations are no
// longer stored, mean reports true.
func (l *revocations) mean(g *authz.Grant, hash [32]byte, since uint64) bool {
	if g != nil && g.IsPair() {
		hash = g.PairHash
	}
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
