package cache

import (
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Stats are the numbers of a [Cache]. Counts only grow; the others are as of
// now.
type Stats struct {
	Positive StoreStats // the store of grants
	Negative StoreStats // the store of denials

	// Misses counts requests that no store could answer.
	Misses uint64
	// Coalesced counts those of them that joined a request under way.
	Coalesced uint64
	// Cooled counts those that failed at once, because the same had failed less
	// than a second ago.
	Cooled uint64
	// Busy counts requests to the source for which there was no place in time,
	// and callers above the number that may wait for one answer.
	Busy uint64
	// Stale counts grants served after their time because the source was
	// unavailable.
	Stale uint64
	// Void counts answers that were discarded because of a revocation.
	Void uint64

	Source  Outcomes // of all requests to the source, but those that are Void
	Refresh Outcomes // of those among them that renewed an answer ahead of time

	InFlight int // requests at the source
	Queued   int // requests that wait for a place
}

// StoreStats are the numbers of one store.
type StoreStats struct {
	// Entries is the number of answers held, with those whose time is over.
	Entries int
	// Bytes estimates the memory they take; it is not known of denials.
	Bytes int
	// Hits counts requests that were answered from the store in time.
	Hits uint64
	// Evictions counts answers pushed out by others.
	Evictions uint64
	// Expirations counts answers that were found when their time was over.
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
