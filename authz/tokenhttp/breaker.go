package tokenhttp

import (
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	breakerWindow = 10 * time.Second // in which faults are counted
	breakerBucket = time.Second
	breakerOpen   = 5 * time.Second // without a call
	breakerProbes = 3               // calls that must succeed before all may
	breakerRow    = 5               // faults in a row that open it
	breakerLeast  = 20              // calls from which the share of faults counts
)

// newBreaker returns a breaker that opens on five faults in a row, or when half
// of at least twenty calls within ten seconds fail. A denial is a success.
func newBreaker() *gobreaker.CircuitBreaker[decision] {
	return gobreaker.NewCircuitBreaker[decision](gobreaker.Settings{
		MaxRequests:  breakerProbes,
		Interval:     breakerWindow,
		BucketPeriod: breakerBucket,
		Timeout:      breakerOpen,
		IsExcluded:   blameless,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return n.ConsecutiveFailures >= breakerRow ||
				n.Requests >= breakerLeast && 2*n.TotalFailures >= n.Requests
		},
	})
}

// pause is the time until which the service asked to be left alone.
type pause struct{ until atomic.Int64 }

// extend lengthens the pause to d from now; it never shortens it.
func (p *pause) extend(now time.Time, d time.Duration) {
	for want := now.Add(d).UnixNano(); d > 0; {
		old := p.until.Load()
		if old >= want || p.until.CompareAndSwap(old, want) {
			return
		}
	}
}

func (p *pause) on(now time.Time) bool { return now.UnixNano() < p.until.Load() }
