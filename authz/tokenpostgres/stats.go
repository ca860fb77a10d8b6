package tokenpostgres

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Stats are the counters of a [Source] since it was made.
type Stats struct {
	// Allowed and Denied count decisions, Unknown lookups without a row, and Failed requests
	// without a decision, of which Busy counts those that waited too long for their turn.
	Allowed, Denied, Unknown, Failed, Busy uint64
	// Retries counts lookups that were made twice because a connection was broken.
	Retries uint64
	// Time is the total time of all requests, checks of passwords included.
	Time time.Duration
	// Breaker is closed, open while the database is asked less often because several devices
	// and addresses met faults, or half-open while a probe is in progress.
	Breaker string
	// Used and Idle are how many connections are open, without the one for notifications.
	Used, Idle int
	// Waits counts the lookups that had to wait for a connection, because none was free. WaitTime
	// is how long those that got one have waited in all.
	Waits    uint64
	WaitTime time.Duration
	// Listening reports whether notifications are heard; it is false without a channel.
	Listening bool
}

// counters are the parts of Stats that are counted.
type counters struct {
	allowed, denied, unknown, failed, busy, retries atomic.Uint64
	nanoseconds                                     atomic.Int64
}

func (n *counters) count(err error, took time.Duration) {
	n.nanoseconds.Add(int64(took))
	switch {
	case err == nil:
		n.allowed.Add(1)
	case errors.Is(err, authz.ErrUnknown):
		n.unknown.Add(1)
	case errors.Is(err, authz.ErrDenied):
		n.denied.Add(1)
	case errors.Is(err, authz.ErrBusy):
		n.busy.Add(1)
	default:
		n.failed.Add(1)
	}
}

// Stats returns the current counters.
func (s *Source) Stats() Stats {
	n, pool := &s.counters, s.pool.Stat()
	return Stats{
		Used: int(pool.AcquiredConns()), Idle: int(pool.IdleConns()),
		Waits: uint64(pool.EmptyAcquireCount() + pool.CanceledAcquireCount()), WaitTime: pool.EmptyAcquireWaitTime(),
		Listening: s.listener != nil && s.listener.listening.Load(),
		Allowed:   n.allowed.Load(), Denied: n.denied.Load(), Unknown: n.unknown.Load(), Failed: n.failed.Load(), Busy: n.busy.Load(),
		Retries: n.retries.Load(), Time: time.Duration(n.nanoseconds.Load()), Breaker: s.breaker.State(),
	}
}

// Down returns why the database does not decide, and since when. It returns nil while the database
// decides or has not been asked.
func (s *Source) Down() (since time.Time, err error) { return s.breaker.Down() }
