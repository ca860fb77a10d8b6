package cache

import (
	"context"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const (
	// minTombstone is how long a denial by Revoke holds if nothing is cached.
	minTombstone = time.Minute
	// maxTombstones bounds the memory for tombstones; the oldest go first.
	maxTombstones = 100_000
	// maxRecent is how many revocations may come while a request is under way
	// without its answer being thrown away unread.
	maxRecent = 1024
)

// Revoke makes the Cache forget every grant that r means and returns their
// number. Answers under way that r means are thrown away; whoever waits for one
// asks again. Grants that are in use already are not its business.
//
// With deny the revocation also holds against the source: for the longer of TTL
// and Stale, and at least a minute, what r means is denied as [authz.Revoked] whatever the source says.
// A token named by its digest is then not asked for at all. At most 100,000 such
// denials are kept, and a Purge does not lift them.
//
// A revocation that names nothing does nothing.
func (c *Cache) Revoke(r authz.Revocation, deny bool) (entries int) {
	r = canonical(r)
	if r == everything {
		return 0
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if deny {
		c.tombstones.add(r, struct{}{}, now, now.Add(max(c.options.TTL, c.options.Stale, minTombstone)))
	}
	c.recent.add(r)
	for _, s := range c.shards {
		entries += s.evict(r)
	}
	return entries
}

// AdoptDenials takes over the denials that Revoke has made in old, for a Cache that
// takes its place. Nothing else passes from one to the other.
func (c *Cache) AdoptDenials(old *Cache) {
	now := time.Now()
	old.mu.Lock()
	kept := old.tombstones.all(now)
	old.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range kept {
		c.tombstones.add(d.key, struct{}{}, now, d.until)
		c.recent.add(d.key)
	}
}

// Purge makes the Cache forget all grants and denials and returns how many they
// were. Answers under way are thrown away, denials by [Cache.Revoke] stay.
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
// is called, the Cache has forgotten what the revocation means.
func (c *Cache) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	n, ok := c.source.(authz.Notifier)
	if !ok {
		<-ctx.Done()
		return nil
	}
	return n.Notify(ctx, func(r authz.Revocation) {
		c.Revoke(r, false)
		revoked(r)
	})
}

// everything is the revocation that means every answer, also a denial.
var everything = authz.Revocation{}

// canonical leaves in r the one field that r.Matches goes by.
func canonical(r authz.Revocation) authz.Revocation {
	switch {
	case r.TokenID != "":
		return authz.Revocation{TokenID: r.TokenID}
	case r.Subject != "":
		return authz.Revocation{Subject: r.Subject}
	}
	return r
}

// tombstoned returns until when a grant is denied by a tombstone. A nil grant
// stands for any grant of the token. c.mu is held.
func (c *Cache) tombstoned(g *authz.Grant, hash [32]byte, now time.Time) (until time.Time, ok bool) {
	names := []authz.Revocation{{TokenHash: hash}}
	if g != nil {
		names = append(names, authz.Revocation{TokenID: g.TokenID}, authz.Revocation{Subject: g.Subject})
	}
	for _, r := range names {
		if _, end, found := c.tombstones.get(r, now); found {
			ok = true
			if end.After(until) {
				until = end
			}
		}
	}
	return until, ok
}

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

// mean reports whether a revocation after number since means the answer that a
// token with the digest hash got; g is nil for an answer that is no grant. If
// they were too many to tell, they do.
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
