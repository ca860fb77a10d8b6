package guard

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
)

const (
	// repeat is how long the same failure is not counted again.
	repeat = 10 * time.Second
	// unguessable is the length in bytes from which a token cannot be found by guessing,
	// however high the rate.
	unguessable = 20
)

// Options are the settings of a [Guard]; the zero value has suitable defaults.
type Options struct {
	// Rate is how many failures per second an address may have in the long run;
	// zero or less means 10.
	Rate float64
	// Burst is how many it may have at once; zero or less means 20.
	Burst int
	// Addresses is how many addresses, and how many of their failures, are stored; zero or less
	// means 50,000. The least recent ones are forgotten first.
	Addresses int
	// Tokens is how many granted tokens are stored; zero or less means 100,000. They are not
	// subject to a budget.
	Tokens int
	// Offline are the sources that answer from memory, or nil if there are none. They are asked
	// about tokens of at least 20 bytes even for an address that has used up its budget,
	// because such a token cannot be guessed. They must be the first of all sources; otherwise
	// a denial of an earlier one would be bypassed.
	Offline authz.Authorizer
	// Exempt lists networks that have no budget. An IPv4 network also applies to clients whose
	// address has the form ::ffff:a.b.c.d.
	Exempt []netip.Prefix
}

// withDefaults returns o with defaults in place of zero values.
func (o Options) withDefaults() Options {
	o.Rate = cmp.Or(max(o.Rate, 0), 10)
	o.Burst = cmp.Or(max(o.Burst, 0), 20)
	o.Addresses = cmp.Or(max(o.Addresses, 0), 50_000)
	o.Tokens = cmp.Or(max(o.Tokens, 0), 100_000)
	o.Exempt = slices.Clone(o.Exempt)
	return o
}

// Guard is an [authz.Authorizer] that limits how many failures an address may cause at another
// one. It is made by [New] and safe for concurrent use.
type Guard struct {
	source, offline authz.Authorizer
	*budgets
}

// budgets is state that Guards in front of different sources may share.
type budgets struct {
	options Options
	rate    bucket.Rate
	seed    maphash.Seed

	mu       sync.Mutex
	buckets  *simplelru.LRU[netip.Prefix, bucket.Bucket] // of addresses that failed
	failures *simplelru.LRU[attempt, failure]
	granted  *simplelru.LRU[uint64, struct{}] // hashes of tokens
	stats    Stats
}

var (
	_ authz.Authorizer = (*Guard)(nil)
	_ authz.Notifier   = (*Guard)(nil)
	_ authz.Taker      = (*Guard)(nil)
)

// attempt is an address with the credential that it tried.
type attempt struct {
	from  netip.Prefix
	token [32]byte
}

// credentialOf returns a digest of the token of r, and of the pair if there is one. A user
// name may be the token, and a password the token of several devices; so a pair that was
// granted says nothing about another one that has one of them in common with it.
func credentialOf(r *authz.Request) [sha256.Size]byte {
	token := r.Token.Hash()
	if r.Pair.IsZero() {
		return token
	}
	pair := authz.PairHash(r.Pair.Username, r.Pair.Password.Reveal())
	return sha256.Sum256(append(token[:], pair[:]...))
}

// failure is the last failure of an attempt that was counted.
type failure struct {
	at     time.Time
	by     uint64 // a digest of the rest of the request
	denied bool
}

// Stats are the numbers of a [Guard]. Throttled and Charged only grow.
type Stats struct {
	Throttled uint64 // requests that were refused
	Charged   uint64 // failures that were counted
	Addresses int    // addresses that are stored now
}

// New returns a Guard for source.
func New(source authz.Authorizer, o Options) *Guard {
	b := &budgets{options: o.withDefaults(), seed: maphash.MakeSeed()}
	b.rate = bucket.PerSecond(b.options.Rate, b.options.Burst)
	// The only possible error is a size below one.
	b.buckets, _ = simplelru.NewLRU[netip.Prefix, bucket.Bucket](b.options.Addresses, nil)
	b.failures, _ = simplelru.NewLRU[attempt, failure](b.options.Addresses, nil)
	b.granted, _ = simplelru.NewLRU[uint64, struct{}](b.options.Tokens, nil)
	return &Guard{source: source, offline: o.Offline, budgets: b}
}

// Before returns a Guard for another source that shares the state of g. offline is like
// [Options.Offline].
func (g *Guard) Before(source, offline authz.Authorizer) *Guard {
	return &Guard{source: source, offline: offline, budgets: g.budgets}
}

// Authorize implements [authz.Authorizer]. Besides the source's own errors it
// returns [authz.ErrThrottled].
func (g *Guard) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	who := attempt{from: authz.Network(r.Addr.Addr()), token: credentialOf(&r)}
	limited := r.Purpose == authz.Connect && g.limited(r.Addr.Addr())
	if limited && !g.admit(who) {
		return g.unguessed(ctx, r)
	}
	grant, err := g.source.Authorize(ctx, r)
	switch denied := errors.Is(err, authz.ErrDenied); {
	case err == nil:
		g.remember(who.token)
	case limited && (denied || errors.Is(err, authz.ErrUnanswerable) || errors.Is(err, authz.ErrUnsure)):
		g.charge(who, failure{at: time.Now(), by: g.rest(&r), denied: denied})
	}
	return grant, err
}

// unguessed returns the answer for an address that has used up its budget.
func (g *Guard) unguessed(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	credential := credentialOf(&r)
	r.Pair = authz.Pair{} // a password can be guessed
	if g.offline != nil && len(r.Token.Reveal()) >= unguessable {
		if grant, err := g.offline.Authorize(ctx, r); err == nil {
			g.remember(credential)
			return grant, nil
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Throttled++
	return nil, authz.ErrThrottled
}

// Notify implements [authz.Notifier] if the source does.
func (g *Guard) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	return notify(ctx, g.source, revoked)
}

// Takes implements [authz.Taker].
func (g *Guard) Takes() authz.Credentials { return authz.Takes(g.source) }

// Stats returns the numbers of g and of all Guards that share its state.
func (g *Guard) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Addresses = g.buckets.Len()
	return s
}

// limited reports whether the network of an address has a budget.
func (b *budgets) limited(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsValid() && !slices.ContainsFunc(b.options.Exempt, func(p netip.Prefix) bool { return p.Contains(a) })
}

// rest returns a hash of the parts of r, besides credential and address, that a source may look
// at.
func (b *budgets) rest(r *authz.Request) uint64 {
	return maphash.Comparable(b.seed, struct {
		clientID, username string
		password           [32]byte
	}{r.ClientID, r.Username, r.Password.Hash()})
}

// remember stores that a token was granted.
func (b *budgets) remember(token [32]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.granted.Add(maphash.Comparable(b.seed, token), struct{}{})
}

// admit reports whether a network may try a token. It may always try a token that was valid
// before, unless that was denied just now.
func (b *budgets) admit(who attempt) bool {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if spent, _ := b.buckets.Peek(who.from); spent.Ready(now, b.rate) {
		return true
	}
	f, ok := b.failures.Peek(who)
	if ok && f.denied && now.Sub(f.at) < repeat {
		return false
	}
	_, ok = b.granted.Get(maphash.Comparable(b.seed, who.token))
	return ok
}

// charge counts a failure against the network's budget, unless it repeats the last one. Only
// denials may exceed the budget by more than one burst: other failures may turn out to be the
// source's, and must not lock out a whole site for long.
func (b *budgets) charge(who attempt, f failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.failures.Get(who); ok && last.by == f.by && f.at.Sub(last.at) < repeat {
		return
	}
	b.failures.Add(who, f)
	spent, _ := b.buckets.Peek(who.from)
	if ahead := spent.Charge(f.at, b.rate); !f.denied && ahead > float64(2*b.options.Burst) {
		return
	}
	b.stats.Charged++
	b.buckets.Add(who.from, spent)
}

// notify calls Notify of source if it is a Notifier.
func notify(ctx context.Context, source authz.Authorizer, revoked func(authz.Revocation)) error {
	if n, ok := source.(authz.Notifier); ok {
		return n.Notify(ctx, revoked)
	}
	<-ctx.Done()
	return nil
}
