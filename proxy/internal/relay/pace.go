package relay

import (
	"bytes"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Pacer limits the rate of what the client sends. While the pump has bytes of a client that may not
// be passed on yet, it reads no more from that client. The client then has to wait, and nothing is
// lost. It is called by one goroutine at a time.
type Pacer interface {
	// Admit returns how many of the bytes b, which the client has sent next, may be passed on
	// at the time now. If these are not all, wait is the time, more than 0, after which more
	// of them may be. The next call begins with the first byte that was not admitted.
	Admit(now time.Time, b []byte) (n int, wait time.Duration)
	// Skipper bounds what the kernel may pass on after the bytes that were admitted.
	Skipper
}

// paced is the part of a direction that is needed if it has a pacer. Like what moves bytes in
// the direction it belongs to the server of the pair, except where a field says otherwise.
type paced struct {
	pacer Pacer
	pump  *Pump

	held  []byte    // has been read and must not be passed on yet
	err   error     // comes after held
	until time.Time // when some of held may be passed on

	scheduled bool // a loop has the direction among those that it holds

	// For any goroutine.
	holding atomic.Bool  // something is held because of the pacer
	last    atomic.Int64 // until, of the last hold, in nanoseconds since 1970
	holds   atomic.Int64

	mu       sync.Mutex // guards the following fields
	deadline time.Time  // ends the wait of a goroutine, unless zero
	wake     chan struct{}
}

// pausing is the time after a hold in which a client is expected to be held again. A loop serves
// such a client without goroutines, even if there is much to move.
const pausing = time.Second

// admit returns how many of the bytes b, at most the first most, may be passed on now, and keeps
// the others. err is what comes after b. Bytes that are not held already are copied.
func (p *paced) admit(b []byte, err error, most int) int {
	now, asked := p.pump.now(), b[:min(len(b), most)]
	n, wait := p.pacer.Admit(now, asked)
	rest := b[n:]
	switch {
	case len(rest) == 0:
		rest = nil // an empty slice of b would keep all of it in memory
	case len(p.held) == 0:
		rest = bytes.Clone(rest)
	}
	p.held, p.err, p.until = rest, err, now
	if n == len(asked) {
		p.ended()
		return n
	}
	p.until = now.Add(wait)
	p.last.Store(p.until.UnixNano())
	if !p.holding.Swap(true) {
		p.holds.Add(1)
		p.pump.holds.Add(1)
		p.pump.held.Add(1)
	}
	return n
}

// ended records that nothing is held because of the pacer any more.
func (p *paced) ended() {
	if p.holding.Swap(false) {
		p.pump.held.Add(-1)
	}
}

// recent reports whether the client was held a short time ago.
func (p *paced) recent(now time.Time) bool {
	last := p.last.Load()
	return last != 0 && now.Sub(time.Unix(0, last)) < pausing
}

// next returns the next bytes that may be passed on, as reader.next does, and an error only
// after all bytes that came before it.
func (p *paced) next(r *reader) ([]byte, error) {
	for {
		b, err := p.held, p.err
		switch {
		case len(b) > 0:
			if err := p.wait(); err != nil {
				return nil, err
			}
		case err != nil:
			p.err = nil
			return nil, err
		default:
			if b, err = r.next(); len(b) == 0 {
				return nil, err
			}
		}
		if n := p.admit(b, err, len(b)); n > 0 {
			return b[:n], nil
		}
		r.release()
	}
}

// spliceable returns how many of the next left bytes of the source may be passed on unseen.
func (p *paced) spliceable(left int) int {
	if len(p.held) > 0 || p.err != nil {
		return 0
	}
	return min(left, p.pacer.Remaining())
}

// wait waits until some of what is held may be passed on. The error is
// [os.ErrDeadlineExceeded] if the deadline of the direction ends the wait.
func (p *paced) wait() error {
	for {
		p.mu.Lock()
		deadline := p.deadline
		if p.wake == nil {
			p.wake = make(chan struct{}, 1)
		}
		p.mu.Unlock()
		now := time.Now()
		switch {
		case !deadline.IsZero() && !now.Before(deadline):
			return os.ErrDeadlineExceeded
		case !now.Before(p.until):
			return nil
		}
		t := p.until
		if !deadline.IsZero() && deadline.Before(t) {
			t = deadline
		}
		timer := time.NewTimer(t.Sub(now))
		select {
		case <-timer.C:
		case <-p.wake:
		}
		timer.Stop()
	}
}

// setDeadline ends the wait of a goroutine at t, also of one that waits already; the zero time
// does not.
func (p *paced) setDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	if p.wake != nil {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// forget drops the bytes that are held, at the end of the direction.
func (p *paced) forget() {
	p.held, p.err = nil, nil
	p.ended()
}

// excuse returns the time until which the client need not read, because it was held: a simple
// device does not read while its own write waits. The time is zero if the client was never held.
func (p *paced) excuse(limit time.Duration) time.Time {
	last := p.last.Load()
	if last == 0 {
		return time.Time{}
	}
	return time.Unix(0, last).Add(limit)
}

// holds reports whether something of d waits that a loop will pass on.
func (d *direction) holds() bool { return d.paced != nil && d.paced.scheduled }

// readUntil makes reads from the source end at t, and also the wait for its pacer.
func (d *direction) readUntil(t time.Time) {
	d.from.readUntil(t)
	if d.paced != nil {
		d.paced.setDeadline(t)
	}
}

func (d *direction) stopReading() { d.readUntil(longAgo) }

// forwardPaced is forward for a direction with a pacer. It moves a small buffer at most, of what
// is held or else of what the source has ready. The loop calls it again when there is more.
func (d *direction) forwardPaced(s *Session, r *reader) bool {
	p, now := d.paced, s.pump.now()
	if r.n = 0; len(p.held) > 0 && now.Before(p.until) {
		s.loop.pause(s, d) // this is an event of the source
		return true
	}
	r.attach(d.from)
	defer r.detach()
	b, err := p.held, p.err
	more := true // of what the source has ready, events may have been passed over
	if len(b) == 0 && err == nil {
		if !r.tryNow() {
			d.filtered.another(false, 0)
			return len(d.from.Socket.pending) == 0
		}
		b, err, more = r.buf.b[:r.n], r.err, r.more()
	}
	r.n = p.admit(b, err, smallBuffer)
	fault := d.deliverNow(s, b[:r.n])
	switch {
	case fault != nil:
		err = fault
	case len(p.held) > 0:
		d.filtered.another(false, 0) // before the end of the hold
		s.loop.pause(s, d)
		return !d.jammed()
	case err == nil && more && p.recent(now):
		d.filtered.another(false, 0)
		p.until = now
		s.loop.pause(s, d)
		return !d.jammed()
	case err == nil:
		return !d.filtered.another(more, r.n) && !d.jammed()
	}
	p.forget()
	d.leftovers().err = err
	d.sourceDone = fault == nil && d.hungUp && !d.from.layered()
	return false
}
