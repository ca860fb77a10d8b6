package tokenhttp

import (
	"sync/atomic"
	"time"
)

// Call describes one question and its answer, for metrics and logs. It contains nothing about
// the device.
type Call struct {
	// Outcome is the result.
	Outcome Outcome
	// Status is the HTTP status code, or 0 if there was no answer.
	Status int
	// Duration is the time it took.
	Duration time.Duration
	// Retried reports that the request was sent twice.
	Retried bool
	// NoStore reports that the service decided and forbade reusing the decision. A service that
	// always does so makes the cache useless.
	NoStore bool
}

// Stats are the counters of a [Source] since it was created.
type Stats struct {
	Allowed, Denied, Ignored, Failed, Busy, Refused uint64
	// Retries counts requests that were sent twice, and NoStore decisions that must not be
	// reused.
	Retries, NoStore uint64
	// Time is the total time of all calls.
	Time time.Duration
	// Breaker is closed, open while the service is asked less often because several keys and
	// addresses met faults, or half-open while a probe is in progress.
	Breaker string
	// Credential is why the files of the proxy's own credential could not be read again, or
	// nil. The last valid content stays in use.
	Credential error
}

// counters are the parts of Stats that are counted.
type counters struct {
	allowed, denied, ignored, failed, busy, refused atomic.Uint64
	retries, noStore                                atomic.Uint64
	nanoseconds                                     atomic.Int64
}

func (n *counters) count(c Call) {
	switch c.Outcome {
	case Allowed:
		n.allowed.Add(1)
	case Denied:
		n.denied.Add(1)
	case Ignored:
		n.ignored.Add(1)
	case Failed:
		n.failed.Add(1)
	case Busy:
		n.busy.Add(1)
	case Refused:
		n.refused.Add(1)
	}
	if c.Retried {
		n.retries.Add(1)
	}
	if c.NoStore {
		n.noStore.Add(1)
	}
	n.nanoseconds.Add(int64(c.Duration))
}

// Stats returns the current counters.
func (s *Source) Stats() Stats {
	n := &s.counters
	return Stats{
		Allowed: n.allowed.Load(), Denied: n.denied.Load(), Ignored: n.ignored.Load(),
		Failed: n.failed.Load(), Busy: n.busy.Load(), Refused: n.refused.Load(),
		Retries: n.retries.Load(), NoStore: n.noStore.Load(),
		Time:       time.Duration(n.nanoseconds.Load()),
		Breaker:    s.breaker.State(),
		Credential: s.credentialFault(),
	}
}

// Down returns why the service does not decide, and since when. It returns nil while the service
// decides or has not been asked.
func (s *Source) Down() (since time.Time, err error) { return s.breaker.Down() }
