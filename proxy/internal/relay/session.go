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
	loop    *loop // the last one that served the pair
	seen    int64 // what had been moved at the last sweep; guarded by the pump's mu
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
	if s.cut != nil {
		if len(f.Client) == 0 && len(f.Upstream) == 0 && !f.Flush {
			s.hasten()
		}
		return
	}
	now, grace := time.Now(), s.pump.grace()
	half, until := now.Add(grace/2), now.Add(grace)
	s.cut = &parting{f, until}
	s.conclude(NoSide, f.Err)
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
	err := d.copy(s)
	if err == errParked {
		return
	}
	if d.filtered != nil {
		d.filtered.close()
	}
	switch f := s.settle(d, other, err); {
	case f == nil:
		if !d.closed && !d.to.closeWrite() {
			other.from.stopReading()
		}
		d.closed = true
	case d == &s.up:
		d.bid(f.Upstream)
	}
	if s.running.Add(-1) == 0 {
		s.finish()
	}
}

// settle draws the conclusions from the end of d. It returns the farewell if the
// pair has been cut; then Cut has told the other direction to end.
func (s *Session) settle(d, other *direction, err error) *parting {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		return s.cut
	}
	s.callOffParking()
	now := time.Now()
	if err == nil {
		s.conclude(d.side, nil)
		other.from.readUntil(now.Add(s.pump.linger()))
		return nil
	}
	by, cause := d.blame(err)
	s.conclude(by, cause)
	over := now.Add(s.pump.grace())
	d.to.socket.out.hurry(over)
	other.to.socket.out.hurry(over)
	if by != d.side && cause != ErrStalled {
		// The receiver is gone, but what it sent before may still be in our
		// socket: a DISCONNECT, most likely.
		other.from.readUntil(over)
	} else {
		other.from.stopReading()
	}
	return nil
}

// finish runs when both directions have ended. The client's farewell waits until
// here: the upstream's comes first.
func (s *Session) finish() {
	defer s.pump.live.Done()
	defer s.pump.leave(s)
	s.mu.Lock()
	f := s.cut
	s.mu.Unlock()
	// A client that sends still must be read, or what it was told last is lost.
	// After an orderly end it has had its time.
	drain := s.down.ended && s.err != nil
	if f != nil {
		drain = s.down.bid(f.Client)
	}
	s.up.to.close()
	if drain && !s.up.ended {
		s.readTheRest()
	}
	s.up.from.close()
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
	s.up.from.discard()
}
