package proxy

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
)

// Rate limits how often something may happen. The zero value sets no limit.
type Rate struct {
	// PerSecond is how often on average.
	PerSecond int
	// Burst is how often at once after a pause; 0 means PerSecond.
	Burst int
}

// bucket returns r as package bucket has it.
func (r Rate) bucket() bucket.Rate {
	return bucket.PerSecond(float64(r.PerSecond), cmp.Or(r.Burst, r.PerSecond))
}

// The networks whose rates are known are kept in small sets, so that the time of a look-up does not
// depend on their number.
const (
	rateSets = 4096
	rateWays = 8
)

// addressRates has a bucket for each of many networks in a fixed amount of memory, half a
// megabyte. If there are too many networks, the one that has been idle longest is forgotten.
// That can only allow more connections: an attacker with many addresses gains nothing beyond what
// these addresses may do in any case.
type addressRates struct {
	seed maphash.Seed
	base time.Time // of addressRate.due
	sets *[rateSets][rateWays]addressRate
}

// addressRate is the bucket of the network with a hash.
type addressRate struct {
	hash uint64
	due  time.Duration // bucket.Bucket.Due, since base
}

// take reports whether one more connection of a network is within the rate, and counts it
// if so.
func (a *addressRates) take(network netip.Prefix, now time.Time, r Rate) bool {
	if a.sets == nil {
		a.seed, a.base, a.sets = maphash.MakeSeed(), now, new([rateSets][rateWays]addressRate)
	}
	hash := maphash.Comparable(a.seed, network)
	slot := findRate(&a.sets[hash%rateSets], hash)
	if slot.hash != hash {
		*slot = addressRate{hash: hash}
	}
	b := bucket.Bucket{Due: a.base.Add(slot.due)}
	ok := b.Take(now, r.bucket())
	slot.due = b.Due.Sub(a.base)
	return ok
}

// findRate returns the slot with the hash, or the one to be used for it.
func findRate(set *[rateWays]addressRate, hash uint64) *addressRate {
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
