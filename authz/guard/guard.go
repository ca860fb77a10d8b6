package guard

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Options are the settings of a [Guard]; the zero value has good ones.
type Options struct {
	// Rate is how many failures per second an address may have in the long run;
	// zero or less means 10.
	Rate float64
	// Burst is how many it may have at once; zero or less means 20.
	Burst int
	// Addresses is how many addresses are watched; zero or less means 50,000.
	// Beyond, the one that failed least recently is forgotten.
	Addresses int
	// Exempt lists networks that have no budget. IPv4 networks are given as
	// such, also where clients appear as ::ffff:a.b.c.d.
	Exempt []netip.Prefix
}

func (o Options) withDefaults() Options {
	if o.Rate <= 0 {
		o.Rate = 10
	}
	if o.Burst <= 0 {
		o.Burst = 20
	}
	if o.Addresses <= 0 {
		o.Addresses = 50_000
	}
	o.Exempt = slices.Clone(o.Exempt)
	return o
}

// Guard is an [authz.Authorizer] that limits the denials an address may cause at
// another one. It is made by [New] and safe for concurrent use.
type Guard struct {
	source  authz.Authorizer
	options Options

	mu      sync.Mutex
	buckets *simplelru.LRU[netip.Prefix, bucket] // of addresses that failed
	stats   Stats
}

var (
	_ authz.Authorizer = (*Guard)(nil)
	_ authz.Notifier   = (*Guard)(nil)
)

// bucket is what an address had left of its budget at some time; below zero, it
// owes.
type bucket struct {
	left float64
	at   time.Time
}

// Stats are the numbers of a [Guard]. Counts only grow.
type Stats struct {
	Throttled uint64 // requests that were refused
	Charged   uint64 // denials that an address paid for
	Addresses int    // that are watched now
}

// New returns a Guard around source.
func New(source authz.Authorizer, o Options) *Guard {
	g := &Guard{source: source, options: o.withDefaults()}
	g.buckets, _ = simplelru.NewLRU[netip.Prefix, bucket](g.options.Addresses, nil) // the size is not below one
	return g
}

// Authorize implements [authz.Authorizer]. Beside the source's own errors it
// returns [authz.ErrThrottled].
func (g *Guard) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	from, limited := g.network(r)
	if !limited {
		return g.source.Authorize(ctx, r)
	}
	if !g.admit(from) {
		return nil, authz.ErrThrottled
	}
	grant, err := g.source.Authorize(ctx, r)
	if errors.Is(err, authz.ErrDenied) {
		g.charge(from)
	}
	return grant, err
}

// Notify implements [authz.Notifier] for a source that does.
func (g *Guard) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	return notify(ctx, g.source, revoked)
}

// Stats returns the numbers of g.
func (g *Guard) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Addresses = g.buckets.Len()
	return s
}

// network returns the network that pays for r, or false if none does.
func (g *Guard) network(r authz.Request) (netip.Prefix, bool) {
	a := r.Addr.Addr().Unmap().WithZone("")
	if r.Purpose != authz.Connect || !a.IsValid() {
		return netip.Prefix{}, false
	}
	for _, p := range g.options.Exempt {
		if p.Contains(a) {
			return netip.Prefix{}, false
		}
	}
	bits := 64
	if a.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(a, bits).Masked(), true
}

// admit reports whether the network may fail once more.
func (g *Guard) admit(from netip.Prefix) bool {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left(from, now) >= 1 {
		return true
	}
	g.stats.Throttled++
	return false
}

// charge takes one failure from the network's budget.
func (g *Guard) charge(from netip.Prefix) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Charged++
	g.buckets.Add(from, bucket{left: g.left(from, now) - 1, at: now})
}

// left returns what is left of the network's budget. g.mu is held.
func (g *Guard) left(from netip.Prefix, now time.Time) float64 {
	full := float64(g.options.Burst)
	b, ok := g.buckets.Peek(from)
	if !ok {
		return full
	}
	return min(full, b.left+now.Sub(b.at).Seconds()*g.options.Rate)
}

// notify passes on what source reports, if it does.
func notify(ctx context.Context, source authz.Authorizer, revoked func(authz.Revocation)) error {
	if n, ok := source.(authz.Notifier); ok {
		return n.Notify(ctx, revoked)
	}
	<-ctx.Done()
	return nil
}
