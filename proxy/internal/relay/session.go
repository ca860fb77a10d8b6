package relay

import (
	"sync"
	"sync/atomic"
	"time"
)

// Session is a pair that runs.
type Session struct {
	pump             *Pump
	client, upstream end
	up, down         direction
	done             func(Result)
	running          atomic.Int32

	mu      sync.Mutex // guards what follows and the read deadlines of both ends
	ended   bool       // by and err stand
	by      Side
	parking bool // the goroutines have been asked to end
	quiet   bool // there are no goroutines: loop serves the pair
	err     error
	cut     *parting
	over    time.Time // when the second direction has to end, zero while both go on
	loop    *loop     // the last one that served the pair
	seen    int64     // what had been moved at the last sweep; guarded by the pump's mu
}

// parting is a farewell under way.
type parting struct {
	Farewell
	until time.Time // when everything is over
}

// Bytes returns what has been written to the upstream and to the client so far.
func (s *Session) Bytes() (up, down int64) { return s.up.moved.Load(), s.down.moved.Load() }

// Cut ends the pair from any goroutine and returns at once; Done follows within
// about [Pump.Grace]. Only the first Cut counts, except that a later one without a
// farewell ends the grace of the first. It has no effect on the result of a pair one
// side of which has ended already.
//
// The upstream is told first, and has half of the time to take its farewell.
func (s *Session) Cut(f Farewell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut == nil {
		s.end(f, NoSide)
	} else if !f.speaks() {
		s.hasten()
	}
}

// speaks reports whether anybody is to be told something.
func (f *Farewell) speaks() bool { return len(f.Client) > 0 || len(f.Upstream) > 0 || f.Flush }

// end is the beginning of the end of a pair that has not been cut. s.mu is held.
func (s *Session) end(f Farewell, by Side) {
	now, grace := time.Now(), s.pump.grace()
	half, until := now.Add(grace/2), now.Add(grace)
	s.cut = &parting{f, until}
	s.conclude(by, f.Err)
	s.callOffParking()
	s.up.to.socket.out.hurry(half)
	s.down.to.socket.out.hurry(until)
	s.up.from.stopReading()
	if f.Flush {
		s.down.from.readUntil(half)
	} else {
		s.down.from.stopReading()
	}
}

// hasten ends the grace of a pair that has been cut. s.mu is held.
func (s *Session) hasten() {
	s.cut.until = time.Now()
	for _, d := range []*direction{&s.up, &s.down} {
		d.to.socket.out.hurry(s.cut.until)
		d.from.stopReading()
	}
}

// callOffParking sees to it that both directions have their goroutine, or have come
// to their end. s.mu is held.
func (s *Session) callOffParking() {
	if s.parking || s.quiet {
		s.resume()
	}
}

// conclude records the first reason why the pair ends. s.mu is held.
func (s *Session) conclude(by Side, err error) {
	if !s.ended {
		s.ended, s.by, s.err = true, by, err
	}
}

// runUp and runDown have names of their own so that a goroutine dump tells how
// many sessions there are and which way they wait.
func (s *Session) runUp()   { s.run(&s.up, &s.down) }
func (s *Session) runDown() { s.run(&s.down, &s.up) }

// run moves bytes one way until that way ends, then sees to it that the other
// way ends too.
func (s *Session) run(d, other *direction) {
	err := s.move(d)
	if err == errParked {
		return
	}
	s.windUp(d, other, err)
	if s.running.Add(-1) == 0 {
		s.finish()
	}
}

// move is direction.copy that survives a panic.
func (s *Session) move(d *direction) (err error) {
	defer func() {
		if s.pump.survive(recover()) {
			err = ErrPanic
		}
	}()
	return d.copy(s)
}

// windUp draws the conclusions from the end of d and tells its receiver.
func (s *Session) windUp(d, other *direction, err error) {
	defer func() { s.pump.survive(recover()) }()
	if d.filtered != nil {
		d.filtered.close()
	}
	switch f := s.settle(d, other, err); {
	case f == nil:
		if !d.closed && !d.to.closeWrite() {
			s.mu.Lock()
			s.limit(other, longAgo)
			s.mu.Unlock()
		}
		d.closed = true
	case d == &s.up:
		d.bid(f.Upstream)
	}
}

// settle decides what the end of d means for the pair. It returns the farewell if the
// pair has been cut; then the other direction has been told to end.
func (s *Session) settle(d, other *direction, err error) *parting {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		return s.cut
	}
	s.callOffParking()
	f, _ := err.(*fault)
	switch {
	case err == nil:
		s.conclude(d.side, nil)
		if s.over.IsZero() { // or the other has ended before
			s.await(other)
		}
	case err == ErrPanic:
		s.end(Farewell{Err: err}, NoSide)
	case f.in != judging:
		s.fail(d, other, f)
	case d == &s.up:
		// What the client has said before counts, and so do the answers.
		s.end(Farewell{Client: f.words, Flush: true, Err: err}, d.side)
	default:
		s.end(Farewell{Err: err}, d.side)
	}
	return s.cut
}

// await gives d its time after the other direction has ended in order. A broker that
// has ended has nothing more to say, and does not listen any more. s.mu is held.
func (s *Session) await(d *direction) {
	if d == &s.down {
		s.limit(d, time.Now().Add(s.pump.linger()))
		return
	}
	s.limit(d, time.Now().Add(s.pump.grace()))
	d.to.socket.out.hurry(s.over)
}

// limit makes d, the second direction, read until t. s.mu is held.
func (s *Session) limit(d *direction, t time.Time) {
	s.over = t
	d.from.readUntil(t)
}

// fail ends the pair because of a fault of d. s.mu is held.
func (s *Session) fail(d, other *direction, f *fault) {
	by, cause := d.blame(f)
	s.conclude(by, cause)
	over := time.Now().Add(s.pump.grace())
	d.to.socket.out.hurry(over)
	other.to.socket.out.hurry(over)
	if by != d.side && cause != ErrStalled {
		// The receiver is gone, but what it sent before may still be in our
		// socket: a DISCONNECT, most likely.
		s.limit(other, over)
	} else {
		s.limit(other, longAgo)
	}
}

// finish runs when both directions have ended. A client that sends still must be read
// until it closes, or what it was told last is lost.
func (s *Session) finish() {
	defer s.pump.live.Done()
	defer s.pump.leave(s)
	wait := s.lastWords()
	s.up.to.close()
	if wait {
		s.readTheRest()
	}
	s.up.from.close()
	s.report()
}

// lastWords says farewell to the client, which comes after the upstream's. It reports
// whether the client is to be waited for.
func (s *Session) lastWords() (wait bool) {
	defer func() { s.pump.survive(recover()) }()
	s.mu.Lock()
	f := s.cut
	s.mu.Unlock()
	wait = !s.up.ended && !s.down.broken
	switch {
	case f != nil:
		told := s.down.bid(f.Client)
		return wait && (told || s.by != NoSide)
	case s.by == Upstream && s.err == nil:
		return false // it has had its time
	}
	return wait
}

// report calls Done.
func (s *Session) report() {
	defer func() { s.pump.survive(recover()) }()
	if s.done != nil {
		s.done(Result{Up: s.up.moved.Load(), Down: s.down.moved.Load(), By: s.by, Err: s.err})
	}
}

// readTheRest waits for the client to close, for the grace at most. The deadline is
// set under the lock, so that it cannot override the one of a cut that comes now.
func (s *Session) readTheRest() {
	s.mu.Lock()
	until := time.Now().Add(s.pump.grace())
	if s.cut != nil {
		until = s.cut.until
	}
	s.up.from.readUntil(until)
	s.mu.Unlock()
	b := s.pump.buffers.get(smallBuffer)
	s.up.from.discard(b.b)
	s.pump.buffers.put(b)
}
