package sqlite

import (
	"context"
	"time"
)

// turns keeps readers from delaying devices. While messages wait for a commit one query runs
// at a time, and as much time passes between two of them as restFactor queries take.
type turns struct {
	turn chan struct{} // holds a value while a query has the turn
	next time.Time     // when the next query may start; belongs to the one that has the turn
}

const (
	restFactor = 3
	// longestRest bounds the rest after a query that took long, for want of a processor
	// perhaps.
	longestRest = 100 * time.Millisecond
)

// take returns when a query may start, and what to call when it is done. Without messages
// that wait for a commit that is at once.
func (t *turns) take(ctx context.Context, busy bool) (done func(), err error) {
	if !busy {
		return func() {}, nil
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if rest := time.Until(t.next); rest > 0 {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			<-t.turn
			return nil, ctx.Err()
		}
	}
	start := time.Now()
	return func() {
		end := time.Now()
		t.next = end.Add(min(restFactor*end.Sub(start), longestRest))
		<-t.turn
	}, nil
}

// busy reports whether messages wait for a commit.
func (s *Store) busy() bool { return len(s.queue) > 0 || s.health.started.Load() != 0 }
