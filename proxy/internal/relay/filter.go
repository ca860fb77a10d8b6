package relay

import (
	"errors"
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
	// not be kept. An error ends the pair; back is sent before.
	Filter(b []byte) (pass, back []byte, err error)
}

// Errors of a filter that answers.
var (
	errNoBoundaries = errors.New("filter answers, but where packets begin is not known")
	errAnswers      = errors.New("too many answers while a packet is not complete")
)

// maxAnswers bounds what waits for the end of a packet, in bytes.
const maxAnswers = 64 << 10

// filtered is what a direction has if either of the pair's is filtered.
type filtered struct {
	d        *direction
	filter   Filter // of this direction, or nil
	opposite *filtered

	out     sync.Mutex // held while writing: the goroutines of both directions do
	answers []byte     // wait for the end of a packet; guarded by out
	shut    bool       // the receiver gets nothing any more; guarded by out
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
func (f *filtered) deliver(b []byte, now bool) (refused, writeErr error) {
	if f.filter != nil {
		var back []byte
		b, back, refused = f.filter.Filter(b)
		if len(back) > 0 {
			refused = errors.Join(refused, f.opposite.answer(back, now))
		}
		if refused != nil {
			return refused, nil
		}
	}
	f.out.Lock()
	defer f.out.Unlock()
	if len(f.answers) > 0 {
		n, err := f.toBoundary(b)
		if err != nil {
			return err, nil
		}
		if err := f.d.write(b[:n], now); err != nil {
			return nil, err
		}
		if err := f.sendAnswers(now); err != nil {
			return nil, err
		}
		b = b[n:]
	}
	if err := f.d.follow(b); err != nil {
		return err, nil
	}
	return nil, f.d.write(b, now)
}

// toBoundary follows b up to the end of the packet that has begun, and returns how
// much that is.
func (f *filtered) toBoundary(b []byte) (n int, err error) {
	for n < len(b) && !f.d.framer.AtBoundary() {
		if err := f.d.follow(b[n : n+1]); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// answer sends whole packets this way, on behalf of the opposite direction: at once
// if no packet has begun, else after that one. A receiver that takes nothing holds
// up the caller, which has caused the answer.
func (f *filtered) answer(packets []byte, now bool) error {
	f.out.Lock()
	defer f.out.Unlock()
	switch {
	case f.d.framer == nil:
		return errNoBoundaries
	case f.shut:
		return nil
	case len(f.answers)+len(packets) > maxAnswers:
		return errAnswers
	}
	f.answers = append(f.answers, packets...)
	// A receiver that is gone is found out by what is read from it.
	_ = f.sendAnswers(now)
	return nil
}

// sendAnswers does so between two packets. f.out is held.
func (f *filtered) sendAnswers(now bool) error {
	if !f.d.framer.AtBoundary() {
		return nil
	}
	answers := f.answers
	f.answers = nil
	return f.d.write(answers, now)
}

// close keeps answers from being sent after the end.
func (f *filtered) close() {
	f.out.Lock()
	defer f.out.Unlock()
	f.shut = true
}
