package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Cache is an [authz.Authorizer] that stores the answers of another one. It is made by [New]
// and safe for concurrent use.
type Cache struct {
	source  authz.Authorizer
	options Options
	keys    *keyer
	narrow  *narrowings
	slots   *slots
	shared  *interner
	shards  [shards]*shard

	ctx     context.Context // canceled by Close
	stop    context.CancelFunc
	running sync.WaitGroup

	// mu orders answers and revocations: no answer is stored while a revocation is applied. It
	// is locked before a shard's lock. Hits do not lock it.
	mu      sync.Mutex
	closed  bool
	used    bool // there has been a flight
	flights map[key]*flight
	recent  revocations
	cooling timed[key, error]
	stats   flightStats
}

var (
	_ authz.Authorizer = (*Cache)(nil)
	_ authz.Notifier   = (*Cache)(nil)
	_ authz.Taker      = (*Cache)(nil)
)

// New returns a Cache for source. [Cache.Close] stops it.
func New(source authz.Authorizer, o Options) *Cache {
	o = o.withDefaults()
	c := &Cache{
		source:  source,
		options: o,
		keys:    newKeyer(o.Source, o.Vary),
		narrow:  newNarrowings(o.Size),
		slots:   &slots{size: o.Concurrency, wide: o.Queue},
		shared:  newInterner(),
		flights: map[key]*flight{},
		cooling: newTimed[key, error](o.NegativeSize),
	}
	for i := range c.shards {
		c.shards[i] = newShard(o)
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Close cancels all requests to the source and returns when they have ended. Stored answers are
// still used until they expire; for everything else Authorize returns [authz.ErrUnavailable]
// from then on. Close may be called more than once.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
}

// Takes implements [authz.Taker].
func (c *Cache) Takes() authz.Credentials { return authz.Takes(c.source) }

// Authorize implements [authz.Authorizer]. Besides the source's own errors it
// returns [authz.ErrBusy] when too many requests wait for the source.
func (c *Cache) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k := c.key(&r)
	found := c.shard(k).find(k, time.Now(), c.maxAge(r.Purpose))
	switch {
	case found.grant != nil:
		if found.refresh {
			c.refresh(k, r)
		}
		return found.grant, nil
	case found.denial != nil:
		return nil, found.denial
	}
	return c.ask(ctx, k, r)
}

func (c *Cache) shard(k key) *shard { return c.shards[k[0]%shards] }

// maxAge is the maximum age of a stored answer that may be used.
func (c *Cache) maxAge(p authz.Purpose) time.Duration {
	if p == authz.Connect || c.options.Watched {
		return math.MaxInt64
	}
	return recheckAge
}

// jitter returns up to a tenth of d.
func jitter(d time.Duration) time.Duration { return rand.N(d/10 + 1) }

// ask gets the answer to r from the source, or shares the request of another caller.
func (c *Cache) ask(ctx context.Context, k key, r authz.Request) (*authz.Grant, error) {
	hash := holderOf(&r)
	for range attempts {
		f, grant, err := c.join(k, hash, r)
		if f == nil {
			return c.orStale(k, grant, err)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			c.quit(f)
			return nil, ctx.Err()
		}
		if !c.overtaken(f) {
			return c.orStale(k, f.grant, f.err)
		}
	}
	return nil, fmt.Errorf("%w: the answers of the source were revoked again and again", authz.ErrUnavailable)
}

// join returns a flight that will have the answer to r, or the answer if it has been stored in
// the meantime.
func (c *Cache) join(k key, hash [32]byte, r authz.Request) (*flight, *authz.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	found := c.shard(k).find(k, now, c.maxAge(r.Purpose))
	switch {
	case found.grant != nil:
		return nil, found.grant, nil
	case found.denial != nil:
		return nil, nil, found.denial
	}
	c.stats.Misses++
	r.Known = found.known
	as := unknown
	switch {
	case r.Purpose == authz.Recheck:
		as = recheck
	case found.known:
		as = known
	}
	f := c.flights[k]
	switch {
	case c.closed:
		return nil, nil, errClosed
	case f != nil && f.waiters == maxWaiters:
		c.stats.Busy++
		return nil, nil, errWaiters
	case f != nil:
		c.stats.Coalesced++
		c.slots.promote(f.ticket, as)
	default:
		if err, _, ok := c.cooling.get(k, now); ok {
			c.stats.Cooled++
			return nil, nil, err
		}
		var err error
		if f, err = c.launch(k, hash, r, as); err != nil {
			return nil, nil, err
		}
	}
	f.waiters++
	return f, nil, nil
}

// quit is called by a waiter that gives up; the flight continues.
func (c *Cache) quit(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiters--
}

// overtaken reports whether a revocation took effect before f's answer could be used.
func (c *Cache) overtaken(f *flight) bool {
	if f.void || f.grant == nil {
		return f.void
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.mean(f.grant, f.hash, f.ended)
}

// orStale returns the answer, or an old grant if the source has failed. If the source was not
// asked at all, there is no old grant: the holder of a withdrawn token could cause that.
func (c *Cache) orStale(k key, grant *authz.Grant, err error) (*authz.Grant, error) {
	if err == nil || !outage(err) {
		return grant, err
	}
	if old := c.shard(k).findStale(k, time.Now()); old != nil {
		return old, nil
	}
	return nil, err
}

// outage reports whether err is a failure of the source.
func outage(err error) bool {
	for _, other := range []error{authz.ErrDenied, authz.ErrBusy, authz.ErrThrottled, errClosed} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// refresh renews the answer to r in the background. If that is not possible now, the next hit
// tries again.
func (c *Cache) refresh(k key, r authz.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.flights[k] != nil {
		return
	}
	if _, _, ok := c.cooling.get(k, time.Now()); ok {
		return
	}
	r.Purpose, r.Known = authz.Refresh, true
	_, _ = c.launch(k, holderOf(&r), r, known)
}
