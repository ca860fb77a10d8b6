package passwordhash

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// maxMemory bounds the memory of all checks together, in bytes.
const maxMemory = 256 << 20

// Workers bounds the checks that run at once, by processors and by memory. Make one with
// [NewWorkers]. It is safe for concurrent use. It has no goroutines of its own: a check runs in the
// goroutine of its caller.
type Workers struct {
	size               int
	processors, memory *semaphore.Weighted
	hashes             atomic.Uint64
	time               atomic.Int64
}

// Stats are the numbers of [Workers]. They only grow.
type Stats struct {
	Hashes uint64        // that were computed
	Time   time.Duration // that this took
}

// NewWorkers returns Workers for n checks at once; 0 or less means as many as there are
// processors, and at least two.
func NewWorkers(n int) *Workers {
	if n <= 0 {
		n = max(2, runtime.GOMAXPROCS(0))
	}
	return &Workers{size: n, processors: semaphore.NewWeighted(int64(n)), memory: semaphore.NewWeighted(maxMemory)}
}

// Size returns how many checks run at once. A cache in front of a source should let as many
// through.
func (w *Workers) Size() int { return w.size }

// Check reports whether the password is the one of the hash. It waits until there is room for the
// check. If ctx ends first, the error is [authz.ErrBusy]; a check that has begun runs to its end.
func (w *Workers) Check(ctx context.Context, h Hash, password authz.Token) (bool, error) {
	if h.scheme == nil {
		return false, nil
	}
	c := h.scheme.cost()
	processors := int64(min(c.processors, w.size))
	if err := acquire(ctx, w.memory, c.memory); err != nil {
		return false, err
	}
	defer w.memory.Release(c.memory)
	if err := acquire(ctx, w.processors, processors); err != nil {
		return false, err
	}
	defer w.processors.Release(processors)
	began := time.Now()
	good, err := h.Matches(password)
	w.hashes.Add(1)
	w.time.Add(int64(time.Since(began)))
	if err != nil {
		return false, fmt.Errorf("%w: a password hash: %w", authz.ErrUnavailable, err)
	}
	return good, nil
}

func acquire(ctx context.Context, s *semaphore.Weighted, n int64) error {
	err := ctx.Err()
	if err == nil {
		err = s.Acquire(ctx, n)
	}
	if err != nil {
		return fmt.Errorf("%w: too many passwords are being checked: %w", authz.ErrBusy, err)
	}
	return nil
}

// Stats returns the numbers of w.
func (w *Workers) Stats() Stats {
	return Stats{Hashes: w.hashes.Load(), Time: time.Duration(w.time.Load())}
}
