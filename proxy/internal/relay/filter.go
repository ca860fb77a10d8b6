package relay

import (
	"cmp"
	"errors"
	"slices"
	"sync"
)

// Filter decides what of one direction is passed on. It is called by one goroutine
// at a time, and never while there is nothing to decide on: for a pair that is idle
// it costs nothing.
type Filter interface {
	// Filter is shown every byte, in order and in arbitrary pieces. It returns what
	// is passed on in place of b, which may be b itself, and whole packets for the
	// side that sent b. Those go between two packets of the other direction, whose
	// [Framer] must be set. Both must stay as they are until the next call; b must
	// not be kept.
	//
	// An error ends the pair. What came before is passed on, and back becomes the
	// close notice of a client that sent b: it is sent after all that the upstream still
	// has to say.
	Filter(b []byte) (pass, back []byte, err error)
}

// Errors of a filter that answers.
var (
	errNoBoundaries = errors.New("filter answers, but where packets begin is not known")
	errAnswers      = errors.New("too many answers that cannot be sent yet")
)

// maxAnswers bounds the answers that wait for the end of a packet, or for a goroutine
// to send what a loop has left, in bytes.
const maxAnswers = 64 << 10

// filtered is what a direction has if either of the pair's is filtered.
type filtered struct {
	d        *direction
	filter   Filter // of this direction, or nil
	opposite *filtered

	out     sync.Mutex // held while writing: the goroutines of both directions do
	answers []byte     // wait for the end of a packet; guarded by out
	shut    bool       // the receiver gets nothing any more; guarded by out
	err     error      // of an answer, which may have been cut off; guarded by out
}

// filterPair sets up both directions, if need be.
func filterPair(up, down *direction, pair Pair) {
	if pair.FilterUp == nil && pair.FilterDown == nil {
		return
	}
	up.filtered = &filtered{d: up, filter: pair.FilterUp}
	down.filtered = &filtered{d: down, filter: pair.FilterDown, opposite: up.filtered}
	up.filtered.opposite = down.filtered
}

// deliver is direction.deliver for a filtered pair.
func (f *filtered) deliver(s *Session, b []byte, now bool) error {
	var refused error
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

// pass writes b, and what waits for the end of a packet behind that.
func (f *filtered) pass(s *Session, b []byte, now bool) error {
	f.out.Lock()
	defer f.out.Unlock()
	if f.err != nil {
		return &fault{in: writing, err: f.err}
	}
	if len(f.answers) > 0 {
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

// write is direction.write with the error of a receiver.
func (f *filtered) write(b []byte, now bool) error {
	if err := f.d.write(b, now); err != nil && !now {
		return &fault{in: writing, err: err}
	}
	return nil
}

// toBoundary follows b up to the end of the packet that has begun, and returns how
// much that is.
func (f *filtered) toBoundary(s *Session, b []byte, now bool) (n int, err error) {
	for n < len(b) && !f.d.framer.AtBoundary() {
		m, err := f.d.follow(s, b[n:n+1], now)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// answer sends whole packets this way, on behalf of the opposite direction: at once
// if no packet has begun, else after that one. A receiver that takes nothing holds
// up the caller, which has caused the answer, for the write timeout at most.
func (f *filtered) answer(packets []byte, now bool) error {
	f.out.Lock()
	defer f.out.Unlock()
	switch {
	case f.d.framer == nil:
		return &fault{in: judging, err: errNoBoundaries}
	case f.err != nil:
		return &fault{in: answering, err: f.err}
	case f.shut:
		return nil
	case len(f.answers)+len(packets)+f.d.carried() > maxAnswers:
		return &fault{in: judging, err: errAnswers}
	}
	f.answers = append(f.answers, packets...)
	if err := f.sendAnswers(now); err != nil {
		return &fault{in: answering, err: err}
	}
	return nil
}

// sendAnswers does so between two packets. After an error nothing more is written this
// way, since an answer may have been cut off. f.out is held.
func (f *filtered) sendAnswers(now bool) error {
	if !f.d.framer.AtBoundary() {
		return nil
	}
	answers := f.answers
	f.answers = nil
	if err := f.d.write(answers, now); err != nil && !now {
		f.err = err
	}
	return f.err
}

// close keeps answers from being sent after the end. It is called by the goroutine of
// the direction.
func (f *filtered) close() {
	f.out.Lock()
	defer f.out.Unlock()
	f.shut = true
	if f.err != nil {
		f.d.broken, f.d.closed = true, true
	}
}
