// Package bucket has a token bucket, which limits how often something happens.
//
//	rate := bucket.PerSecond(10, 20) // ten a second, twenty at once after a rest
//	if !b.Take(time.Now(), rate) {
//		return errTooOften
//	}
//
// A [Bucket] remembers a single moment: when the next one is due at an even pace (the
// generic cell rate algorithm). A moment in the past is a full bucket, so the zero
// value is full. The rate is given with each call and may change from one to the next.
// Nothing in the package reads a clock or locks.
package bucket

import (
	"math"
	"time"
)

// Rate is how often something may happen. The zero value sets no bound.
type Rate struct {
	// Interval is the time between two at an even pace; 0 or less sets no bound.
	Interval time.Duration
	// Burst is how many there may be at once after a rest; less than 1 means 1.
	Burst int
}

// PerSecond returns the rate of n a second, with as many at once as burst says. An n of
// 0 or less sets no bound.
func PerSecond(n float64, burst int) Rate {
	if !(n > 0) { // NaN neither
		return Rate{}
	}
	const longest = float64(math.MaxInt32 * int64(time.Second))
	return Rate{Interval: time.Duration(max(1, min(float64(time.Second)/n, longest))), Burst: burst}
}

// tolerance is how far ahead of an even pace a burst may run.
func (r Rate) tolerance() time.Duration { return r.Interval * time.Duration(max(r.Burst, 1)-1) }

// Bucket is the state of one thing that is limited. It is not safe for concurrent use.
type Bucket struct {
	// Due is when the next one is due at an even pace.
	Due time.Time
}

// Ready reports whether there may be one more now.
func (b *Bucket) Ready(now time.Time, r Rate) bool {
	return r.Interval <= 0 || b.Due.Sub(now) <= r.tolerance()
}

// Take reports whether there may be one more now, and counts it if so.
func (b *Bucket) Take(now time.Time, r Rate) bool {
	if !b.Ready(now, r) {
		return false
	}
	b.Charge(now, r)
	return true
}

// Charge counts one more, also where there may be none now. It returns how many that
// makes in advance of the rate: up to the burst they were ready, beyond it they are
// owed.
func (b *Bucket) Charge(now time.Time, r Rate) (ahead float64) {
	if r.Interval <= 0 {
		return 0
	}
	if b.Due.Before(now) {
		b.Due = now
	}
	b.Due = b.Due.Add(r.Interval)
	return float64(b.Due.Sub(now)) / float64(r.Interval)
}
