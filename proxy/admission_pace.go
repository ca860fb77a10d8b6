package proxy

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"time"
)

// Rate bounds how often something may happen. The zero value does not.
type Rate struct {
	// PerSecond is how often on average.
	PerSecond int
	// Burst is how often at once after a rest; 0 means as often as in a second.
	Burst int
}

// interval is the time between two at an even pace.
func (r Rate) interval() time.Duration { return time.Second / time.Duration(r.PerSecond) }

// tolerance is how far ahead of an even pace a burst may run.
func (r Rate) tolerance() time.Duration {
	return r.interval() * time.Duration(cmp.Or(r.Burst, r.PerSecond)-1)
}

// pace is a token bucket that remembers one moment: when the next one is due at an
// even pace (the generic cell rate algorithm). A moment in the past is a full
// bucket. It belongs to no rate, so that a rate may change.
type pace struct{ due time.Time }

// take reports whether one more is within the rate, and counts it if so.
func (p *pace) take(now time.Time, r Rate) bool {
	if r.PerSecond <= 0 {
		return true
	}
	due := p.due
	if due.Before(now) {
		due = now
	}
	if due.Sub(now) > r.tolerance() {
		return false
	}
	p.due = due.Add(r.interval())
	return true
}

// The addresses whose pace is known at a time: sets of a few, so that one look-up
// costs the same however many there are.
const (
	paceSets = 4096
	paceWays = 8
)

// addressPaces has a pace for each of many addresses in a fixed amount of memory,
// half a megabyte. When there are too many the one that has rested longest is
// forgotten, which only ever allows more: an attacker with many addresses gains
// nothing over what these addresses may do anyway.
type addressPaces struct {
	seed maphash.Seed
	base time.Time // what dues count from
	sets *[paceSets][paceWays]addressPace
}

// addressPace is the pace of the address with a hash.
type addressPace struct {
	hash uint64
	due  time.Duration // since base
}

// take is [pace.take] for one address or network.
func (a *addressPaces) take(block netip.Prefix, now time.Time, r Rate) bool {
	if a.sets == nil {
		a.seed, a.base, a.sets = maphash.MakeSeed(), now, new([paceSets][paceWays]addressPace)
	}
	hash := maphash.Comparable(a.seed, block)
	slot := findPace(&a.sets[hash%paceSets], hash)
	if slot.hash != hash {
		*slot = addressPace{hash: hash}
	}
	p := pace{due: a.base.Add(slot.due)}
	ok := p.take(now, r)
	slot.due = p.due.Sub(a.base)
	return ok
}

// findPace returns the slot with the hash, or the one to be used for it.
func findPace(set *[paceWays]addressPace, hash uint64) *addressPace {
	rested := &set[0]
	for i := range set {
		if set[i].hash == hash {
			return &set[i]
		}
		if set[i].due < rested.due {
			rested = &set[i]
		}
	}
	return rested
}
