package hooks

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of all events together are 10,000 events and 8 MiB.
const (
	maxBatch, maxBatchBytes       = 1000, 1 << 20
	maxSessions, maxSessionsBytes = 8000, 6 << 20
	maxRefused, maxRefusedBytes   = 1000, 1 << 20
	// share is the part of a queue that one party may take: 1 in 100.
	share = 100
)

const (
	// collectTime is how long events wait for others.
	collectTime = time.Second
	// firstPause is the time until the second attempt. It doubles up to longestPause.
	firstPause   = time.Second
	longestPause = time.Minute
)

// Sender delivers events. It is made by [New]. Its methods may be called from many goroutines.
type Sender struct {
	changed func(error)
	target  atomic.Pointer[Target]

	mu                sync.Mutex
	sessions, refused queue
	batch             *batch // what is being delivered, nil if nothing
	stats             Stats
	fault             error
	number            uint64

	wake chan struct{} // has an element when there may be something to deliver
}

// batch is the content of one request.
type batch struct {
	events int
	body   []byte
	id     string
}

// Stats are the counters of a sender.
type Stats struct {
	// Queued is how many events wait, those that are being delivered included.
	Queued int
	// Delivered counts events that the receiver has accepted, Dropped those for which there was no
	// room, and Rejected those that the receiver has refused.
	Delivered, Dropped, Rejected uint64
	// Failures counts requests that were not answered with 2xx.
	Failures uint64
	// Last is when the receiver last accepted events.
	Last time.Time
	// Fault is why the last request failed, nil if it did not.
	Fault error
}

// New returns a sender without a target, which drops all events. If changed is not nil, it is
// called with the reason when requests begin to fail, and with nil when they succeed again.
func New(changed func(error)) *Sender {
	return &Sender{
		changed:  changed,
		sessions: queue{most: maxSessions, mostBytes: maxSessionsBytes, share: maxSessions / share},
		refused:  queue{most: maxRefused, mostBytes: maxRefusedBytes, share: maxRefused / share},
		wake:     make(chan struct{}, 1),
	}
}

// Set sets where events go from the next request on. With nil they go nowhere, and those that wait
// are dropped.
func (s *Sender) Set(t *Target) {
	if t != nil {
		t.open()
	}
	if old := s.target.Swap(t); old != nil && old != t {
		old.closeIdle()
	}
	if t == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := s.sessions.clear() + s.refused.clear()
		if s.batch != nil {
			n += s.batch.events
		}
		s.batch, s.fault = nil, nil
		s.stats.Dropped += uint64(n)
	}
}

// Stats returns the counters.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Queued, st.Fault = s.sessions.events.Len()+s.refused.events.Len(), s.fault
	if s.batch != nil {
		st.Queued += s.batch.events
	}
	return st
}

// wants reports whether the receiver wants the event.
func (s *Sender) wants(event string) bool {
	t := s.target.Load()
	return t != nil && t.wants(event)
}

// add queues an event of a party.
func (s *Sender) add(q *queue, party string, e Event) {
	e.Time = time.Now().UTC().Truncate(time.Millisecond)
	text := e.encode()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	s.stats.Dropped += uint64(q.push(entry{number: s.number, party: party, text: text}))
	s.signal()
}

// Run delivers events until ctx is done. A second call continues, as after a panic.
func (s *Sender) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if !s.waitForMore(ctx) {
			return
		}
		if s.take() && !s.deliver(ctx) {
			return
		}
		if s.Stats().Queued > 0 {
			s.signal()
		}
	}
}

// signal makes Run look for events.
func (s *Sender) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// waitForMore waits until there may be enough events for a request. It returns false if ctx is
// done.
func (s *Sender) waitForMore(ctx context.Context) bool {
	over := time.NewTimer(collectTime)
	defer over.Stop()
	for s.Stats().Queued < maxBatch {
		select {
		case <-ctx.Done():
			return false
		case <-over.C:
			return true
		case <-s.wake:
		}
	}
	return true
}

// Close delivers what is left, as far as ctx allows, and drops the rest. Run must have returned.
func (s *Sender) Close(ctx context.Context) error {
	for s.take() {
		if !s.deliver(ctx) {
			break
		}
	}
	left := s.Stats()
	s.Set(nil)
	if left.Queued > 0 {
		return errors.Join(errors.New("events were not delivered"), left.Fault)
	}
	return nil
}

// take makes a batch of the oldest events unless there is one. It returns false if there is nothing
// to deliver.
func (s *Sender) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batch != nil {
		return true
	}
	var body bytes.Buffer
	n := 0
	for n < maxBatch && body.Len() < maxBatchBytes {
		q := &s.sessions
		e, ok := q.first()
		if r, is := s.refused.first(); is && (!ok || r.number < e.number) {
			q, e, ok = &s.refused, r, true
		}
		if !ok {
			break
		}
		if n++; n > 1 {
			body.WriteByte(',')
		}
		body.Write(e.text)
		q.pop()
	}
	if n == 0 {
		return false
	}
	s.batch = &batch{events: n, body: []byte(`{"events":[` + body.String() + `]}`), id: rand.Text()}
	return true
}

// deliver sends the batch until the receiver has taken or rejected it. It returns false if ctx is
// done before.
func (s *Sender) deliver(ctx context.Context) bool {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		s.mu.Lock()
		b := s.batch
		s.mu.Unlock()
		t := s.target.Load()
		if b == nil || t == nil {
			return true // the target was taken away
		}
		err := t.post(ctx, b)
		if err != nil && ctx.Err() != nil {
			s.note(err, false)
			return false
		}
		wait, again := retry(err, pause)
		s.done(b, err, again)
		if !again {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

// done counts the outcome of a request and forgets the batch unless it is sent again.
func (s *Sender) done(b *batch, err error, again bool) {
	s.note(err, true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.stats.Failures++
	}
	if again || s.batch != b {
		return
	}
	s.batch = nil
	if err != nil {
		s.stats.Rejected += uint64(b.events)
		return
	}
	s.stats.Delivered += uint64(b.events)
	s.stats.Last = time.Now()
}

// note remembers the outcome of a request, and reports it if that has changed.
func (s *Sender) note(err error, report bool) {
	s.mu.Lock()
	was := s.fault
	s.fault = err
	s.mu.Unlock()
	if report && s.changed != nil && (err == nil) != (was == nil) {
		s.changed(err)
	}
}
