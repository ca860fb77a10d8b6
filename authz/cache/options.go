package cache

import (
	"cmp"
	"time"
)

const (
	// MaxTTL is the longest time a grant is kept without asking again.
	MaxTTL = time.Hour
	// MaxNegativeTTL is the longest time a denial is kept. It is short, because
	// a device whose token was just created must not stay locked out.
	MaxNegativeTTL = time.Minute
)

const (
	// cooldown is how long a key is not asked for after an error.
	cooldown = time.Second
	// recheckAge is the maximum age of an answer for a Recheck.
	recheckAge = 5 * time.Second
	// maxWaiters is how many callers may share one request to the source.
	maxWaiters = 1024
	// queueWait is how long a request may wait for a place.
	queueWait = 2 * time.Second
	// attempts is how often a caller asks again because of revocations.
	attempts = 4
)

// Options are the settings of a [Cache]. The zero value is right for a source that looks only
// at the token.
type Options struct {
	// Source names the source; it is part of every key.
	Source string
	// Vary has the parts of a request, besides the token, that the source looks at. Requests
	// that differ in one of them do not share an answer. If a part is missing here, a device
	// may get the answer of another one.
	Vary Field

	// Watched means that the source reports with Notify every change of its answers, but for
	// an unknown device that becomes known, whose denials it does not let be kept. An answer
	// from the stores is then as good as a new one: it serves a Recheck too and is not
	// renewed ahead, and any revocation that the source reports drops all denials.
	Watched bool

	// Size and NegativeSize are the numbers of grants and of denials to keep;
	// zero means 100,000 and 20,000. They are rounded up to multiples of 16.
	Size, NegativeSize int
	// Bytes limits the estimated memory of grants; zero means 256 MiB.
	Bytes int

	// TTL is how long a grant is used without asking again: zero means 60 s,
	// negative not at all, at most [MaxTTL]. Each entry lives up to a tenth
	// shorter, so that grants that were fetched together do not expire together.
	TTL time.Duration
	// NegativeTTL is the same for a denial: zero means 10 s, negative not at
	// all, at most [MaxNegativeTTL].
	NegativeTTL time.Duration
	// Stale is how long a grant is still used after its TTL if the source is
	// unavailable: zero means 300 s, negative not at all.
	Stale time.Duration
	// RefreshAhead is the part of a grant's time after which a hit renews it in
	// the background: zero means 0.8; negative, or 1 and more, means never.
	RefreshAhead float64

	// Timeout is how long one request to the source may take; zero means 5 s.
	Timeout time.Duration
	// Concurrency is how many requests may be at the source at once; zero means
	// 64. Tokens never seen before get half of it.
	Concurrency int
	// Queue is how many requests may wait for a place, each for up to two seconds; zero means
	// 16,384, which is enough for a fleet that reconnects with an empty cache. It is divided
	// like the places.
	Queue int
}

// withDefaults returns o with defaults in place of zero values, and within the limits.
func (o Options) withDefaults() Options {
	o.Size = max(cmp.Or(o.Size, 100_000), 1)
	o.NegativeSize = max(cmp.Or(o.NegativeSize, 20_000), 1)
	o.Bytes = max(cmp.Or(o.Bytes, 256<<20), 1)
	o.TTL = min(max(cmp.Or(o.TTL, time.Minute), 0), MaxTTL)
	o.NegativeTTL = min(max(cmp.Or(o.NegativeTTL, 10*time.Second), 0), MaxNegativeTTL)
	o.Stale = max(cmp.Or(o.Stale, 5*time.Minute), 0)
	o.RefreshAhead = cmp.Or(o.RefreshAhead, 0.8)
	if o.RefreshAhead < 0 || o.RefreshAhead > 1 || o.Watched {
		o.RefreshAhead = 1
	}
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	o.Concurrency = max(cmp.Or(o.Concurrency, 64), 1)
	o.Queue = max(cmp.Or(o.Queue, 16_384), 0)
	return o
}

// narrowed returns the shorter of d and the time that the source gave. Zero from the source
// means d, and a negative time means zero.
func narrowed(d, wanted time.Duration) time.Duration {
	return min(d, max(cmp.Or(wanted, d), 0))
}
