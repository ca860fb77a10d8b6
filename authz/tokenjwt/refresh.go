package tokenjwt

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// errClosed is why a closed source has no newer keys.
var errClosed = fmt.Errorf("%w: the source of keys is closed", authz.ErrUnavailable)

// flight is a requested or running read of the keys. Any number of callers wait for it.
type flight struct {
	done chan struct{} // closed when err is set
	err  error
}

// refreshing is the state of reading the keys; Source.mu guards it.
type refreshing struct {
	asked   *flight // requested, but not started
	running *flight
	ended   time.Time // of the last one
	err     error     // of the last one
	content [sha256.Size]byte
	gone    []string // ids of keys that were removed, the last maxGone
	stats   Stats
}

// maxGone is how many ids of removed keys are stored.
const maxGone = 256

// Stats describes the keys of a [Source].
type Stats struct {
	// Keys is the number of keys in effect.
	Keys int
	// Ignored is the number of members of the set in effect that cannot be used.
	Ignored int
	// Changed, Unchanged and Failed count the reads of the keys by result: new keys, the same
	// keys, or no valid keys.
	Changed, Unchanged, Failed uint64
	// LastSuccess is when the keys in effect were last read or found unchanged.
	LastSuccess time.Time
	// Err is why the last read failed, or nil.
	Err error
}

// Stats returns the current numbers.
func (s *Source) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Reload reads the keys now. It returns nil if they are in effect, and otherwise why the last
// valid keys stay in effect.
func (s *Source) Reload(ctx context.Context) error {
	s.mu.Lock()
	f := s.requestLocked()
	s.mu.Unlock()
	return s.wait(ctx, f)
}

// requestLocked requests a read that starts after now.
func (s *Source) requestLocked() *flight {
	if s.asked == nil {
		s.asked = &flight{done: make(chan struct{})}
		s.wake <- struct{}{} // has room: there is one element for each asked
	}
	return s.asked
}

// newer returns keys that are newer than seen, or seen if there are none. It reads them unless
// that was done less than minRefresh ago, and returns an error if they cannot be read. fresh
// reports that they were read after the call.
func (s *Source) newer(ctx context.Context, seen *keySet) (newer *keySet, fresh bool, err error) {
	s.mu.Lock()
	f := s.running
	switch now := s.keys.Load(); {
	case now != seen:
		s.mu.Unlock()
		return now, false, nil
	case f != nil:
	case s.asked == nil && !s.ended.IsZero() && time.Since(s.ended) < minRefresh:
		defer s.mu.Unlock()
		return seen, false, inKeys(s.err)
	default:
		f, fresh = s.requestLocked(), true
	}
	s.mu.Unlock()
	if err := s.wait(ctx, f); err != nil {
		return nil, false, inKeys(err)
	}
	return s.keys.Load(), fresh, nil
}

func inKeys(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("keys: %w", err)
}

// retired reports whether there was a key with that id that has been removed. It is unlikely to
// come back, and the holder of a token that it signed must not be able to delay the denial by
// causing further reads.
func (s *Source) retired(kid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.gone, kid)
}

// retireLocked stores the ids that next no longer has.
func (s *Source) retireLocked(next *keySet) {
	ids := next.ids()
	for _, id := range s.keys.Load().ids() {
		if !slices.Contains(ids, id) && !slices.Contains(s.gone, id) {
			s.gone = append(s.gone, id)
		}
	}
	s.gone = slices.Clone(s.gone[max(0, len(s.gone)-maxGone):])
}

func (s *Source) wait(ctx context.Context, f *flight) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return errClosed
	}
}

// keepFresh reads the keys when that is requested and when they are due, until ctx is done.
// Only this goroutine reads them.
func (s *Source) keepFresh(ctx context.Context) {
	defer close(s.closed)
	due := time.NewTimer(0)
	<-due.C // the first read is requested
	defer due.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-due.C:
		}
		age, err := s.readKeys(ctx)
		failures++
		if err == nil {
			failures = 0
		}
		due.Reset(s.pause(age, failures))
	}
}

// pause returns the time until the next read: the max-age of the last answer, but at most
// Options.Refresh, or after failures a time that doubles up to that.
func (s *Source) pause(age time.Duration, failures int) time.Duration {
	longest := s.options.Refresh
	switch {
	case failures > 0:
		return min(minRefresh<<min(failures-1, 16), longest)
	case age > 0:
		return min(max(age, minRefresh), longest)
	}
	return longest
}

// readKeys reads the keys once and wakes the callers that wait for it.
func (s *Source) readKeys(ctx context.Context) (age time.Duration, err error) {
	s.mu.Lock()
	f := s.asked
	if f == nil {
		f = &flight{done: make(chan struct{})}
	} else {
		select {
		case <-s.wake: // the timer was first
		default:
		}
	}
	s.asked, s.running = nil, f
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	read, err := safely(func() (document, error) { return s.load(ctx) })

	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = s.acceptLocked(read.content)
	}
	if err != nil {
		s.stats.Failed++
	} else {
		s.stats.LastSuccess = time.Now()
	}
	s.err, s.stats.Err, s.ended, s.running = err, err, time.Now(), nil
	f.err = err
	close(f.done)
	return read.maxAge, err
}

// safely turns a panic of f, which reads or parses what comes from elsewhere, into an error:
// this goroutine serves all devices.
func safely[T any](f func() (T, error)) (value T, err error) {
	defer func() {
		if v := recover(); v != nil {
			// The value may contain a part of a key.
			err = fmt.Errorf("internal error while the keys were read (%T)", v)
		}
	}()
	return f()
}

// acceptLocked puts content into effect if it is valid.
func (s *Source) acceptLocked(content []byte) error {
	sum := sha256.Sum256(content)
	if s.keys.Load() != nil && sum == s.content {
		s.stats.Unchanged++
		return nil
	}
	set, err := safely(func() (*keySet, error) { return s.parse(content, s.algorithms) })
	if err != nil {
		return err
	}
	s.retireLocked(set)
	s.keys.Store(set)
	s.content = sum
	s.stats.Changed++
	s.stats.Keys, s.stats.Ignored = len(set.keys), set.ignored
	return nil
}
