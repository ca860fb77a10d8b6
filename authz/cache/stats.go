package cache

import (
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Stats are the numbers of a [Cache]. Counts only grow; the other numbers are current.
type Stats struct {
	Positive StoreStats // the store of grants
	Negative StoreStats // the store of denials

	// Misses counts requests for which no answer was stored.
	Misses uint64
	// Coalesced counts misses that joined a request in progress.
	Coalesced uint64
	// Cooled counts misses that failed at once, because a request with the same key had failed
	// less than a second before.
	Cooled uint64
	// Busy counts requests to the source that did not get a place in time, and callers beyond
	// the number that may wait for one answer.
	Busy uint64
	// Stale counts expired grants that were used because the source was unavailable.
	Stale uint64
	// Void counts answers that were discarded because of a revocation.
	Void uint64

	Source  Outcomes // of all requests to the source, except those that are Void
	Refresh Outcomes // of those that renewed an answer in advance

	InFlight int // requests at the source
	Queued   int // requests that wait for a place
}

// StoreStats are the numbers of one store.
type StoreStats struct {
	// Entries is the number of stored answers, including expired ones.
	Entries int
	// Bytes estimates their memory; for denials it is 0.
	Bytes int
	// Hits counts requests that were answered from the store.
	Hits uint64
	// Evictions counts answers that were removed to make room.
	Evictions uint64
	// Expirations counts answers that had expired when they were looked up.
	Expirations uint64
}

func (s *StoreStats) add(o StoreStats) {
	s.Hits += o.Hits
	s.Evictions += o.Evictions
	s.Expirations += o.Expirations
}

// Outcomes counts answers by kind.
type Outcomes struct{ Granted, Denied, Unavailable uint64 }

func (o *Outcomes) count(err error) {
	switch {
	case err == nil:
		o.Granted++
	case errors.Is(err, authz.ErrDenied):
		o.Denied++
	default:
		o.Unavailable++
	}
}

// flightStats are the numbers that are not a shard's.
type flightStats struct {
	Misses, Coalesced, Cooled, Busy, Void uint64
	Source, Refresh                       Outcomes
}

func (s *flightStats) count(f *flight) {
	switch {
	case f.void:
		s.Void++
		return
	case f.asked.IsZero():
		s.Busy++
		return
	}
	s.Source.count(f.err)
	if f.request.Purpose == authz.Refresh {
		s.Refresh.count(f.err)
	}
}

// Stats returns the numbers of c.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	f := c.stats
	c.mu.Unlock()
	t := Stats{
		Misses: f.Misses, Coalesced: f.Coalesced, Cooled: f.Cooled, Busy: f.Busy,
		Void: f.Void, Source: f.Source, Refresh: f.Refresh,
	}
	for _, s := range c.shards {
		s.addTo(&t)
	}
	t.InFlight, t.Queued = c.slots.count()
	return t
}
