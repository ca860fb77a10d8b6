package cache

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// class is the priority of a request to the source; lower values go first.
type class int

const (
	known   class = iota // the token was valid before
	unknown              // the token was not seen before
	recheck              // no device waits
	classes
)

// slots are the places at the source and the queue before them.
//
// Unknown tokens get half of the places, and together with rechecks three quarters: the rest is
// for devices whose token was valid before. The queue is divided in the same way.
type slots struct {
	size  int // places
	wide  int // how many requests may wait
	mu    sync.Mutex
	busy  [classes]int
	queue [classes]list.List // of *ticket
}

// ticket is one request's place, or its turn to get one.
type ticket struct {
	class   class
	place   *list.Element // in the queue; nil outside it
	started chan struct{} // closed when it gets a place
}

var (
	errQueueFull = fmt.Errorf("%w: too many requests wait for the source", authz.ErrBusy)
	errQueueTime = fmt.Errorf("%w: waited %v for a place at the source", authz.ErrBusy, queueWait)
)

// enter returns a ticket, or an error if the queue is full. The owner of the ticket must call
// wait and, if that succeeds, leave.
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

// wait returns nil when t has a place, or an error if it does not get one.
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
		return nil // it got a place in the meantime
	}
	s.queue[t.class].Remove(t.place)
	t.place = nil
	return err
}

// promote moves t to the class c if that has a higher priority and t is still waiting.
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

// leave gives t's place to the next ticket.
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

// within reports whether one more request of class c may be added to those in used, which share
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

// count returns how many requests are at the source and how many are waiting.
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
