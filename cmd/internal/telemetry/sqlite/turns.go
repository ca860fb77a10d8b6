package sqlite

import (
	"context"
	"time"
)

// turns keeps readers from delaying devices. While messages wait for a commit one query runs
// at a time, and as much time passes between two of them as restFactor queries take.
type turns struct {
	turn chan struct{} // holds a value while a query has the turn
	next time.Time     // when the next query may start; the holder of the turn owns it
}

const (
	restFactor = 3
	// longestRest is the longest pause after a slow query, which may only have waited for a
	// processor.
	longestRest = 100 * time.Millisecond
)

// acquire returns when a query may start, with a function to call when it is done. Unless the
// store is busy, it returns at once.
func (t *turns) acquire(ctx context.Context, busy bool) (done func(), err error) {
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
