package cache

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// class is the rank of a request to the source; lower goes first.
type class int

const (
	known   class = iota // the token was good before
	unknown              // the token was not seen before
	recheck              // no device waits
	classes
)

// slots are the places at the source and the queue before them.
//
// Unknown tokens get half of the places, and together with rechecks three
// quarters: what remains is for devices that wait with a token that was good
// before. The queue is divided in the same way.
type slots struct {
	size  int // places
	wide  int // how many may wait
	mu    sync.Mutex
	busy  [classes]int
	queue [classes]list.List // of *ticket
}

// ticket is one request's right to a place, now or later.
type ticket struct {
	class   class
	place   *list.Element // in the queue; nil outside it
	started chan struct{} // closed when it may go
}

var (
	errQueueFull = fmt.Errorf("%w: too many requests wait for the source", authz.ErrBusy)
	errQueueTime = fmt.Errorf("%w: waited %v for a place at the source", authz.ErrBusy, queueWait)
)

// enter returns a ticket, or an error if the queue is full. The ticket's holder
// calls wait and, if that succeeds, leave.
func (s *slots) enter(c class) (*ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &ticket{class: c, started: make(chan struct{})}
	switch {
	case s.free(c):
		s.start(t)
	case within(c, s.wide, s.queued()):
		t.place = s.queue[c].PushBack(t)
	default:
		return nil, errQueueFull
	}
	return t, nil
}

// wait returns nil when t's holder may go on, or the reason why it must not.
func (s *slots) wait(ctx context.Context, t *ticket) error {
	timer := time.NewTimer(queueWait)
	defer timer.Stop()
	var err error
	select {
	case <-t.started:
		return nil
	case <-ctx.Done():
		err = errClosed
	case <-timer.C:
		err = errQueueTime
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.place == nil {
		return nil // it was started in the meantime
	}
	s.queue[t.class].Remove(t.place)
	t.place = nil
	return err
}

// promote moves t to the class c, if that is better and t still waits.
func (s *slots) promote(t *ticket, c class) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.place == nil || c >= t.class {
		return
	}
	s.queue[t.class].Remove(t.place)
	t.class = c
	if s.free(c) {
		s.start(t)
		return
	}
	t.place = s.queue[c].PushBack(t)
}

// leave gives t's place to the next.
func (s *slots) leave(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[t.class]--
	for c := range classes {
		for s.queue[c].Len() > 0 && s.free(c) {
			s.start(s.queue[c].Remove(s.queue[c].Front()).(*ticket))
		}
	}
}

func (s *slots) start(t *ticket) {
	s.busy[t.class]++
	t.place = nil
	close(t.started)
}

func (s *slots) free(c class) bool { return within(c, s.size, s.busy) }

func (s *slots) queued() (n [classes]int) {
	for c := range classes {
		n[c] = s.queue[c].Len()
	}
	return n
}

// within reports whether one more of class c may join those in used, which share
// size places.
func within(c class, size int, used [classes]int) bool {
	low := used[unknown] + used[recheck]
	switch {
	case used[known]+low >= size:
		return false
	case c == known:
		return true
	case low >= max(size*3/4, 1):
		return false
	}
	return c == recheck || used[unknown] < max(size/2, 1)
}

// count returns how many requests are at the source and how many wait.
func (s *slots) count() (inFlight, queued int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.queued()
	for c := range classes {
		inFlight += s.busy[c]
		queued += waiting[c]
	}
	return inFlight, queued
}
