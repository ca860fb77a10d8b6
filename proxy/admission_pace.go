package proxy

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
)

// Rate bounds how often something may happen. The zero value does not.
type Rate struct {
	// PerSecond is how often on average.
	PerSecond int
	// Burst is how often at once after a rest; 0 means as often as in a second.
	Burst int
}

// bucket returns r as package bucket has it.
func (r Rate) bucket() bucket.Rate {
	return bucket.PerSecond(float64(r.PerSecond), cmp.Or(r.Burst, r.PerSecond))
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

// take reports whether one more of an address or network is within the rate, and counts
// it if so.
func (a *addressPaces) take(block netip.Prefix, now time.Time, r Rate) bool {
	if a.sets == nil {
		a.seed, a.base, a.sets = maphash.MakeSeed(), now, new([paceSets][paceWays]addressPace)
	}
	hash := maphash.Comparable(a.seed, block)
	slot := findPace(&a.sets[hash%paceSets], hash)
	if slot.hash != hash {
		*slot = addressPace{hash: hash}
	}
	b := bucket.Bucket{Due: a.base.Add(slot.due)}
	ok := b.Take(now, r.bucket())
	slot.due = b.Due.Sub(a.base)
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
