package bucket

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTake(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := PerSecond(10, 3)
	var b Bucket
	for i, step := range []struct {
		after time.Duration
		want  bool
	}{
		{0, true}, {0, true}, {0, true}, {0, false}, // the burst
		{99 * time.Millisecond, false}, {time.Millisecond, true}, {0, false}, // one in a tenth of a second
		{time.Hour, true}, {0, true}, {0, true}, {0, false}, // never more than the burst
	} {
		now = now.Add(step.after)
		if got := b.Ready(now, r); got != step.want {
			t.Errorf("step %d: ready is %v", i, got)
		}
		if got := b.Take(now, r); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}

// TestZeroRateSetsNoLimit: what happens without a limit does not count for a later limit
// either.
func TestZeroRateSetsNoLimit(t *testing.T) {
	var b Bucket
	now := time.Now()
	for range 1000 {
		if !b.Take(now, PerSecond(0, 5)) || b.Charge(now, Rate{}) != 0 {
			t.Fatal("bounded")
		}
	}
	if !b.Take(now, PerSecond(1, 0)) || b.Take(now, PerSecond(1, 0)) {
		t.Error("a burst of 0 is not one")
	}
}

// TestChargeLeavesDebt: no event is ready before the debt is paid off.
func TestChargeLeavesDebt(t *testing.T) {
	var b Bucket
	now, r := time.Unix(1_800_000_000, 0), PerSecond(2, 4)
	for i := range 10 {
		if got := b.Charge(now, r); got != float64(i+1) {
			t.Errorf("charge %d makes %v", i, got)
		}
	}
	if b.Ready(now.Add(3499*time.Millisecond), r) || !b.Ready(now.Add(3500*time.Millisecond), r) {
		t.Error("the debt of 6, and one, take 3.5 s")
	}
}

func TestExtremeRates(t *testing.T) {
	for _, n := range []float64{math.SmallestNonzeroFloat64, 1e-12, 1e12, math.MaxFloat64, math.Inf(1)} {
		if r := PerSecond(n, math.MaxInt32); r.Interval <= 0 || r.Interval > math.MaxInt32*time.Second {
			t.Errorf("%v a second has an interval of %v", n, r.Interval)
		}
	}
}

func TestNoRate(t *testing.T) {
	for _, n := range []float64{0, -1, math.Inf(-1), math.NaN()} {
		if r := PerSecond(n, 5); r != (Rate{}) {
			t.Errorf("%v a second is %v", n, r)
		}
	}
}

// TestNeverMoreThanTheRate: in any span there are at most the burst and the events that the
// rate allows in it.
func TestNeverMoreThanTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := PerSecond(rapid.Float64Range(0.1, 1000).Draw(t, "rate"), rapid.IntRange(1, 50).Draw(t, "burst"))
		start := time.Unix(1_800_000_000, 0)
		now, taken := start, 0
		var b Bucket
		for _, wait := range rapid.SliceOfN(rapid.Int64Range(0, int64(time.Second)), 1, 100).Draw(t, "waits") {
			now = now.Add(time.Duration(wait))
			if b.Take(now, r) {
				taken++
			}
			if most := float64(r.Burst) + float64(now.Sub(start))/float64(r.Interval); float64(taken) > most+1e-6 {
				t.Fatalf("%d taken, at most %v are allowed", taken, most)
			}
		}
	})
}
