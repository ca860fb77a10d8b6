// Package bucket provides a token bucket, which limits the rate of events.
//
//	rate := bucket.PerSecond(10, 20) // ten per second, twenty at once after a pause
//	if !b.Take(time.Now(), rate) {
//		return errTooOften
//	}
//
// A [Bucket] stores a single time: when the next event is due at an even pace (the generic cell
// rate algorithm). A time in the past means a full bucket, so the zero value is full. The rate
// is an argument of each call and may change between calls. The package does not read a clock
// and has no locks.
package bucket

import (
	"math"
	"time"
)

// Rate is the maximum rate of an event. The zero value sets no limit.
type Rate struct {
	// Interval is the time between two events at an even pace; 0 or less sets no limit.
	Interval time.Duration
	// Burst is how many events may happen at once after a pause; less than 1 means 1.
	Burst int
}

// PerSecond returns the rate of n per second with the given burst. An n of 0 or less sets no
// limit.
func PerSecond(n float64, burst int) Rate {
	if !(n > 0) { // also true for NaN
		return Rate{}
	}
	const longest = float64(math.MaxInt32 * int64(time.Second))
	return Rate{Interval: time.Duration(max(1, min(float64(time.Second)/n, longest))), Burst: burst}
}

// tolerance is how far a burst may run ahead of the even pace.
func (r Rate) tolerance() time.Duration { return r.Interval * time.Duration(max(r.Burst, 1)-1) }

// Bucket is the state of one limit. It is not safe for concurrent use.
type Bucket struct {
	// Due is when the next event is due at an even pace.
	Due time.Time
}

// Ready reports whether an event may happen now.
func (b *Bucket) Ready(now time.Time, r Rate) bool {
	return r.Interval <= 0 || b.Due.Sub(now) <= r.tolerance()
}

// Take reports whether an event may happen now, and counts it if so.
func (b *Bucket) Take(now time.Time, r Rate) bool {
	if !b.Ready(now, r) {
		return false
	}
	b.Charge(now, r)
	return true
}

// Charge counts an event even if the rate does not allow it now. It returns how many events
// that makes in advance of the rate: up to the burst they were available, beyond it they are
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
