package relay

import (
	"cmp"
	"errors"
	"slices"
	"sync"
)

// Filter decides what is passed on in one direction. It is called by one goroutine at a time,
// and only with bytes that have arrived, so that it costs an idle pair nothing.
type Filter interface {
	// Filter gets every byte, in order and in arbitrary pieces. It returns what is passed
	// on in place of b, which may be b itself, and whole packets for the side that sent b.
	// Those are sent between two packets of the other direction, whose [Framer] must be
	// set. Both results must not change until the next call. Filter must not keep b.
	//
	// An error ends the pair. What came before is passed on. If the client sent b, back is
	// sent to it as the last packet, after all that the upstream still sends.
	Filter(b []byte) (pass, back []byte, err error)
}

// Borrower is an optional interface of a [Filter]. A filter that has it works in buffers that the
// pump lends, and holds none while nothing arrives.
type Borrower interface {
	// Borrow is called before each call of Filter with buffers that the filter may use and
	// enlarge, and with nil when its results are not needed any more.
	Borrow(bufs *[4][]byte)
}

// Errors of a filter that answers.
var (
	errNoBoundaries = errors.New("filter answers in a direction without a framer")
	errAnswers      = errors.New("too many answers that cannot be sent yet")
)

// maxAnswers bounds, in bytes, the answers that wait for the end of a packet, or for a
// goroutine that sends the leftover of a loop.
const maxAnswers = 64 << 10

// filtered is the part of a direction that is needed if either direction has a filter.
type filtered struct {
	d        *direction
	filter   Filter // of this direction, or nil
	opposite *filtered
	unsent   *unsent // nil as long as there was none; guarded by out

	out  sync.Mutex // held while writing, which the goroutines of both directions do
	shut bool       // nothing more is sent to the receiver; guarded by out
	// Turns of a loop in a row after which the source had more to read; one that read more than a
	// small buffer counts as several. Guarded by the session's mu while a loop serves the pair.
	turns int8
	sends int32 // calls of Session.Send that write; guarded by the session's mu
}

// unsent is what a filter has answered and what has not been sent.
type unsent struct {
	answers []byte // packets that wait for the end of another
	err     error  // of writing an answer
}

// failed returns the error of writing an answer. f.out is held.
func (f *filtered) failed() error {
	if f.unsent == nil {
		return nil
	}
	return f.unsent.err
}

// waiting returns how many bytes of answers wait for the end of a packet. f.out is held.
func (f *filtered) waiting() int {
	if f.unsent == nil {
		return 0
	}
	return len(f.unsent.answers)
}

// filterPair sets up both directions if the pair has a filter.
func filterPair(up, down *direction, pair Pair) {
	if pair.FilterUp == nil && pair.FilterDown == nil {
		return
	}
	var both [2]filtered // most sessions are idle, so that their size counts
	both[0] = filtered{d: up, filter: pair.FilterUp, opposite: &both[1]}
	both[1] = filtered{d: down, filter: pair.FilterDown, opposite: &both[0]}
	up.filtered, down.filtered = &both[0], &both[1]
}

// deliver is direction.deliver for a filtered pair.
func (f *filtered) deliver(s *Session, b []byte, now bool) error {
	var refused error
	if borrower, ok := f.filter.(Borrower); ok {
		bufs := s.pump.buffers.getGrown()
		borrower.Borrow(bufs)
		defer func() {
			borrower.Borrow(nil)
			s.pump.buffers.putGrown(bufs)
		}()
	}
	if f.filter != nil {
		var back []byte
		b, back, refused = f.filter.Filter(b)
		switch {
		case refused != nil:
			refused = &fault{in: judging, err: refused, refusal: slices.Clone(back)}
		case len(back) > 0:
			refused = f.opposite.answer(back, now)
		}
	}
	if err := f.pass(s, b, now); err != nil {
		return err
	}
	return refused
}

// hasMore reports whether another turn of a loop has to read what the source has ready.
func (f *filtered) hasMore() bool { return f != nil && f.turns > 0 }

// idle reports whether no answer waits and none has failed.
func (f *filtered) idle() bool {
	if f == nil {
		return true
	}
	f.out.Lock()
	defer f.out.Unlock()
	return f.unsent == nil
}

// another is called after each turn of a loop, with the number of bytes in it. If there may be more
// to read it counts the turn, and reports whether the rest is left to a goroutine, as it is after
// as much as fills a large buffer. Otherwise another turn has to read the rest. Without a filter
// there are no other turns.
func (f *filtered) another(more bool, n int) (bulk bool) {
	switch {
	case f == nil:
		return more
	case !more:
		f.turns = 0
		return false
	}
	f.turns += int8(max(1, n/smallBuffer))
	return f.turns >= largeBuffer/smallBuffer
}

// pass writes b, and the waiting answers as soon as a packet in b ends.
func (f *filtered) pass(s *Session, b []byte, now bool) error {
	f.out.Lock()
	defer f.out.Unlock()
	if err := f.failed(); err != nil {
		return &fault{in: writing, err: err}
	}
	if f.waiting() > 0 {
		n, err := f.toBoundary(s, b, now)
		if err := cmp.Or(f.write(b[:n], now), err); err != nil {
			return err
		}
		if err := f.sendAnswers(now); err != nil {
			return &fault{in: writing, err: err}
		}
		b = b[n:]
	}
	n, err := f.d.follow(s, b, now)
	return cmp.Or(f.write(b[:n], now), err)
}

// write is direction.write, with the error as a fault of the receiver. Without waiting, the
// leftover has the error.
func (f *filtered) write(b []byte, now bool) error {
	if err := f.d.write(b, now); err != nil && !now {
		return &fault{in: writing, err: err}
	}
	return nil
}

// toBoundary follows b up to the end of the packet that has begun, and returns how many bytes that
// is.
func (f *filtered) toBoundary(s *Session, b []byte, now bool) (n int, err error) {
	for n < len(b) && !f.d.framer.AtBoundary() {
		m, err := f.d.follow(s, b[n:n+1], now)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// answer sends whole packets to the receiver on behalf of the opposite direction: at once if
// no packet has begun, and otherwise after that packet. A receiver that takes nothing delays
// the caller, which has caused the answer, for the write timeout at most.
func (f *filtered) answer(packets []byte, now bool) error {
	f.out.Lock()
	defer f.out.Unlock()
	switch {
	case f.d.framer == nil:
		return &fault{in: judging, err: errNoBoundaries}
	case f.failed() != nil:
		return &fault{in: answering, err: f.failed()}
	case f.shut:
		return nil
	case f.waiting()+len(packets)+f.d.carried() > maxAnswers:
		return &fault{in: judging, err: errAnswers}
	case f.waiting() == 0 && f.d.framer.AtBoundary():
		if err := f.send(packets, now); err != nil {
			return &fault{in: answering, err: err}
		}
		return nil
	}
	if f.unsent == nil {
		f.unsent = &unsent{}
	}
	f.unsent.answers = append(f.unsent.answers, packets...)
	return nil
}

// sendAnswers sends the waiting answers if no packet has begun. f.out is held.
func (f *filtered) sendAnswers(now bool) error {
	if !f.d.framer.AtBoundary() {
		return nil
	}
	answers := f.unsent.answers
	f.unsent = nil
	return f.send(answers, now)
}

// send writes whole packets. After an error nothing more is written in this direction, since a
// part of a packet may have been sent. f.out is held.
func (f *filtered) send(packets []byte, now bool) error {
	if err := f.d.write(packets, now); err != nil && !now {
		f.unsent = &unsent{err: err}
		return err
	}
	return nil
}

// spliceable returns how many bytes the filter does not have to see, of left that the framer
// does not.
func (f *filtered) spliceable(left int) int {
	if f.filter == nil {
		return left
	}
	if s, ok := f.filter.(Skipper); ok {
		return min(left, s.Remaining())
	}
	return 0
}

// skip records n bytes that are passed on without the filter. f.out is held, as long as they
// are passed on.
func (f *filtered) skip(n int) error {
	if s, ok := f.filter.(Skipper); ok {
		s.Skip(n)
	}
	return f.failed()
}

// Send sends whole packets to the client between two packets of the upstream. It may be called
// from any goroutine. A client that takes nothing delays the caller for the write timeout, and a
// fault ends the pair. The pair must have a filter, and a [Framer] for what the upstream sends.
// After the end of the pair Send does nothing.
func (s *Session) Send(packets []byte) {
	down := s.down.filtered
	if s.sendQuiet(down, packets) {
		return
	}
	f, _ := down.answer(packets, false).(*fault)
	s.mu.Lock()
	defer s.mu.Unlock()
	down.sends--
	if f != nil && s.cut == nil {
		by, err := s.up.blame(f)
		s.end(CloseNotice{Err: err}, by)
	}
}

// sendQuiet is Send for a pair that is over or in a loop, where nothing waits. It reports false
// if goroutines serve the pair, which stays so until down.sends is lowered again.
func (s *Session) sendQuiet(down *filtered, packets []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state == over:
		return true
	case s.loop == nil:
		down.sends++
		return false
	}
	if err := down.answer(packets, true); err != nil {
		s.down.leftovers().writeErr = err
	}
	if s.down.stuck() {
		s.resume()
	}
	return true
}

// sending reports whether a call of Session.Send writes. The session's mu is held.
func (f *filtered) sending() bool { return f != nil && f.sends > 0 }

// close prevents answers from being sent after the end of the direction. It is called by the
// goroutine of the direction.
func (f *filtered) close() {
	f.out.Lock()
	defer f.out.Unlock()
	f.shut = true
	if f.failed() != nil {
		f.d.broken, f.d.closed = true, true
	}
}
