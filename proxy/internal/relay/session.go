package relay

import (
	"sync"
	"sync/atomic"
	"time"
)

// Session is a pair that a [Pump] relays.
type Session struct {
	// Set before the pair starts.
	pump             *Pump
	client, upstream Stack
	up, down         direction
	done             func(Result)

	movedAtSweep int64        // bytes moved at the last sweep; guarded by the pump's mu
	running      atomic.Int32 // directions that have not ended

	mu    sync.Mutex // guards the following fields and the read deadlines of both ends
	state state
	by    Side  // why the pair is over, see Result; set with the state
	err   error // as by
	cut   *closing
	gone  bool    // both connections are closed, and no goroutine has to do that
	endBy *ending // when the second direction has to end; nil while both go on
	loop  *loop   // the loop that serves the pair; nil if goroutines do
}

// state is where a pair is in its life; see the package comment.
type state uint8

const (
	running state = iota // goroutines move bytes
	parking              // goroutines move bytes and have been asked to end
	quiet                // no goroutine is left, and a loop serves the pair
	over                 // by and err are known, and goroutines bring the pair to its end
)

// closing is a close notice that is being sent.
type closing struct {
	CloseNotice
	until time.Time // when both connections are closed
}

// Bytes returns what has been written to the upstream and to the client so far.
func (s *Session) Bytes() (up, down int64) { return s.up.moved.Load(), s.down.moved.Load() }

// Holds returns how often the [Pacer] of the pair had something held.
func (s *Session) Holds() int64 {
	if s.up.paced == nil {
		return 0
	}
	return s.up.paced.holds.Load()
}

// Cut ends the pair and returns at once; Done follows within about [Pump.Grace]. It may be
// called from any goroutine. Only the first Cut counts, except that a later one without
// packets and without Flush ends the grace of the first. Cut does not change the result of
// a pair one side of which has ended already.
//
// The upstream's packet is sent first. The upstream has half of the grace to take it.
func (s *Session) Cut(n CloseNotice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	if s.cut == nil {
		s.end(n, NoSide)
	} else if n.immediate() {
		s.hasten()
	}
}

// immediate reports whether neither side gets a packet or time.
func (n *CloseNotice) immediate() bool {
	return len(n.Client) == 0 && len(n.Upstream) == 0 && !n.Flush
}

// end begins to close a pair that has not been cut. s.mu is held.
func (s *Session) end(n CloseNotice, by Side) {
	now, grace := time.Now(), s.pump.grace()
	half, until := now.Add(grace/2), now.Add(grace)
	s.cut = &closing{n, until}
	s.conclude(by, n.Err)
	s.resumeParked()
	s.up.to.Socket.out.finishBy(half)
	s.down.to.Socket.out.finishBy(until)
	s.up.stopReading()
	if n.Flush {
		s.down.readUntil(half)
	} else {
		s.down.stopReading()
	}
}

// hasten ends the grace of a pair that has been cut. s.mu is held.
func (s *Session) hasten() {
	s.cut.until = time.Now()
	for _, d := range []*direction{&s.up, &s.down} {
		d.to.Socket.out.finishBy(s.cut.until)
		d.stopReading()
	}
}

// resumeParked makes sure that each direction has a goroutine or has ended. s.mu is held.
func (s *Session) resumeParked() {
	if s.up.parked || s.down.parked {
		s.resume()
	}
}

// conclude records the first reason why the pair ends. A pair that a loop serves keeps its
// place there until the caller resumes it. s.mu is held.
func (s *Session) conclude(by Side, err error) {
	if s.state != over {
		s.state, s.by, s.err = over, by, err
	}
}

// opposite returns the other direction.
func (s *Session) opposite(d *direction) *direction {
	if d == &s.up {
		return &s.down
	}
	return &s.up
}

// runUp and runDown have names of their own so that a goroutine dump shows how many
// sessions there are and which direction each goroutine serves.
func (s *Session) runUp()   { s.run(&s.up, &s.down) }
func (s *Session) runDown() { s.run(&s.down, &s.up) }

// run moves bytes in direction d until d ends, and then makes the other direction end too.
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

// move is direction.copy, but returns ErrPanic after a panic.
func (s *Session) move(d *direction) (err error) {
	defer func() {
		if s.pump.recoverPanic(recover()) {
			err = ErrPanic
		}
	}()
	return d.copy(s)
}

// windUp handles the end of d, and passes it on to the receiver.
func (s *Session) windUp(d, other *direction, err error) {
	defer func() { s.pump.recoverPanic(recover()) }()
	if d.filtered != nil {
		d.filtered.close()
	}
	if d.paced != nil {
		d.paced.forget()
	}
	switch notice := s.decideEnd(d, other, err); {
	case notice == nil:
		if !d.closed && !d.to.closeWrite() {
			s.mu.Lock()
			s.limit(other, longAgo)
			s.mu.Unlock()
		}
		d.closed = true
	case d == &s.up:
		d.sendLast(notice.Upstream)
	}
}

// decideEnd decides what the end of d means for the pair. It returns the close notice if the
// pair has been cut; the other direction has then been asked to end.
func (s *Session) decideEnd(d, other *direction, err error) *closing {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		return s.cut
	}
	s.resumeParked()
	f, _ := err.(*fault)
	switch {
	case err == nil:
		s.conclude(d.side, nil)
		if s.endBy == nil { // the other direction has not ended before
			s.await(other)
		}
	case err == ErrPanic:
		s.end(CloseNotice{Err: err}, NoSide)
	case f.in != judging:
		s.fail(d, other, f)
	case d == &s.up:
		// What the client sent before is passed on, and so are the upstream's answers.
		s.end(CloseNotice{Client: f.refusal, Flush: true, Err: err}, d.side)
	default:
		s.end(CloseNotice{Err: err}, d.side)
	}
	return s.cut
}

// await limits the time of d after the other direction has ended in order. A client gets
// less time than an upstream, because a broker that has closed no longer reads. s.mu is held.
func (s *Session) await(d *direction) {
	s.limitInOrder(d, time.Now().Add(s.timeAfter(d)))
}

// limitInOrder makes the second direction, d, end at t after the first has ended in order. s.mu is
// held.
func (s *Session) limitInOrder(d *direction, t time.Time) {
	s.limit(d, t)
	if d == &s.up {
		d.to.Socket.out.finishBy(t)
	}
}

// timeAfter returns how long d may go on after the other direction has ended in order.
func (s *Session) timeAfter(d *direction) time.Duration {
	if d == &s.down {
		return s.pump.linger()
	}
	return s.pump.grace()
}

// limit makes the second direction, d, end at t. s.mu is held.
func (s *Session) limit(d *direction, t time.Time) {
	s.endBy = &ending{by: t}
	d.readUntil(t)
}

// fail ends the pair because of a fault of d. s.mu is held.
func (s *Session) fail(d, other *direction, f *fault) {
	by, cause := d.blame(f)
	s.conclude(by, cause)
	until := time.Now().Add(s.pump.grace())
	d.to.Socket.out.finishBy(until)
	other.to.Socket.out.finishBy(until)
	if by != d.side && cause != ErrStalled {
		// The receiver is gone, but what it sent before, most likely a DISCONNECT, may
		// still be in the socket's buffer.
		s.limit(other, until)
	} else {
		s.limit(other, longAgo)
	}
}

// finish runs when both directions have ended. A client that still sends is read until it
// closes. Otherwise the connection would be reset, and the client might lose its last packet.
func (s *Session) finish() {
	defer s.pump.live.Done()
	defer s.pump.forget(s)
	defer s.report()
	defer func() { s.pump.recoverPanic(recover()) }()
	wait := s.sendClientLast()
	s.up.to.close()
	if wait {
		s.readTheRest()
	}
	s.up.from.close()
}

// sendClientLast sends the client its close notice, if there is one; the upstream has had
// its own by then. It reports whether to wait for the client to close.
func (s *Session) sendClientLast() (wait bool) {
	defer func() { s.pump.recoverPanic(recover()) }()
	s.mu.Lock()
	notice := s.cut
	s.mu.Unlock()
	wait = !s.up.sourceDone && !s.down.broken
	switch {
	case notice != nil:
		sent := s.down.sendLast(notice.Client)
		return wait && (sent || s.by != NoSide)
	case s.by == Upstream && s.err == nil:
		return false // the client has had its time, see await
	}
	return wait
}

// report calls Done.
func (s *Session) report() {
	defer func() { s.pump.recoverPanic(recover()) }()
	if s.done != nil {
		s.done(Result{Up: s.up.moved.Load(), Down: s.down.moved.Load(), By: s.by, Err: s.err})
	}
}

// readTheRest waits for the client to close, for the grace at most. The deadline is set
// under the lock so that it cannot replace the one of a concurrent Cut.
func (s *Session) readTheRest() {
	s.mu.Lock()
	until := time.Now().Add(s.pump.grace())
	if s.cut != nil {
		until = s.cut.until
	}
	s.up.readUntil(until)
	s.mu.Unlock()
	b := s.pump.buffers.get(smallBuffer)
	s.up.from.discard(b.b)
	s.pump.buffers.put(b)
}
