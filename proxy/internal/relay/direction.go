package relay

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"
)

// direction moves bytes from one end to the other. The comments on its fields say who may
// use them; the server of a pair is its goroutines, or a loop while the pair is quiet.
// There are two of them for every session, so the order of the fields leaves few gaps.
type direction struct {
	// For any goroutine.
	moved   atomic.Int64 // bytes written
	drained atomic.Bool  // the source is known to have nothing ready, not even inside TLS

	// Guarded by the session's mu.
	parked  bool // no goroutine serves this direction, and it has not ended
	waiting bool // since the pair was parked, an event of the source waits for its turn
	hungUp  bool // since the pair was parked, an event announced the end of the source

	// For this direction's goroutine while it has one. Otherwise guarded by the session's mu,
	// and after both directions have ended for the goroutine that ended last.
	leftover   *leftover // nil unless a loop has left something
	sourceDone bool      // nothing is left to read: the source has closed, or failed
	emptied    bool      // the source had sent nothing else when it ended
	broken     bool      // the receiver accepts nothing more
	closed     bool      // the receiver's end of stream has been sent, or the receiver is broken

	// Set before the pair starts.
	side     Side // of from
	from, to *Stack
	framer   Framer
	filtered *filtered // nil if neither direction of the pair has a filter
	paced    *paced    // nil if the direction has no pacer
}

// leftover is what a loop has read and not passed on, because of writeErr if that is set,
// and what ended the source.
type leftover struct {
	carry         []byte
	err, writeErr error
}

// leftovers returns d.leftover, and allocates it if there is none.
func (d *direction) leftovers() *leftover {
	if d.leftover == nil {
		d.leftover = &leftover{}
	}
	return d.leftover
}

// errLast ends a direction whose source has sent its last packet.
var errLast = errors.New("last packet")

// copy moves bytes until the source ends, something fails or the pair is parked. The error
// is nil for a source that ended in order, and errParked for a parked pair.
func (d *direction) copy(s *Session) error {
	if done, err := d.unload(); done {
		return err
	}
	r := newReader(d.from, &s.pump.buffers)
	r.drained, r.paced = &d.drained, d.paced != nil
	for {
		b, readErr := d.next(r)
		err := d.deliver(s, b, r)
		full := r.full()
		r.release()
		r.shortRead = false
		if full && err == nil && readErr == nil {
			readErr, err = d.spliceBody(&s.pump.pipes, r)
		}
		if err == nil && errors.Is(readErr, os.ErrDeadlineExceeded) {
			if readErr = s.interrupted(d, readErr); readErr == errParked {
				return errParked
			}
		}
		if done, err := d.outcome(err, readErr); done {
			return err
		}
	}
}

// next returns the next bytes to pass on; see reader.next.
func (d *direction) next(r *reader) ([]byte, error) {
	if d.paced != nil {
		return d.paced.next(r)
	}
	return r.next()
}

// unload passes on the leftover of a loop.
func (d *direction) unload() (done bool, err error) {
	if d.filtered != nil {
		d.filtered.out.Lock()
		defer d.filtered.out.Unlock()
	}
	var left leftover
	if d.leftover != nil {
		left = *d.leftover
	}
	if left.writeErr != nil {
		return d.outcome(&fault{in: writing, err: left.writeErr}, nil)
	}
	d.leftover = nil
	n, err := d.to.flush(left.carry)
	d.moved.Add(int64(n))
	if err != nil {
		return d.outcome(&fault{in: writing, err: err}, nil)
	}
	return d.outcome(nil, left.err)
}

// outcome reports whether the direction has ended, and returns the reason: err if what was read
// last could not be delivered, and otherwise readErr.
func (d *direction) outcome(err, readErr error) (bool, error) {
	if err == nil {
		err = readErr
	}
	f, _ := err.(*fault)
	switch {
	case err == nil:
		return false, nil
	case err == errLast:
		return true, nil // what the source sends from now on is ignored
	case f == nil && endOfStream(err):
		d.sourceDone = true
		return true, nil
	case f == nil:
		f = &fault{in: reading, err: err}
		d.sourceDone = !errors.Is(err, os.ErrDeadlineExceeded)
	case f.in == writing:
		d.broken, d.closed = true, true
	}
	return true, f
}

// forward moves what is ready without waiting, on behalf of a loop. It reports false if the
// pair needs goroutines for the rest, which is then in the leftover. s.mu is held.
//
// All other pairs of the loop wait while a filter works. So forward reads little of a
// filtered pair; see filtered.another for the rest.
func (d *direction) forward(s *Session, r *reader) bool {
	if r.paced = d.paced != nil; r.paced {
		return d.forwardPaced(s, r)
	}
	r.attach(d.from)
	r.shortRead = d.filtered != nil
	defer r.detach()
	if !r.tryNow() {
		d.filtered.another(r.more(), 0)
		return len(d.from.Socket.pending) == 0
	}
	b := r.buf.b[:r.n]
	err := r.err
	if fault := d.deliverNow(s, b); fault != nil {
		err = fault
	}
	more := d.filtered.another(r.more(), r.n)
	if err != nil {
		d.leftovers().err = err
		// An event has announced the end, and a plain socket that returns less than it was
		// asked for is empty.
		d.sourceDone = d.hungUp && !d.from.layered() && !r.full() || endOfStream(r.err)
		d.emptied = !r.more() && !r.full()
	}
	return err == nil && !more && !d.jammed()
}

// jammed reports whether something of the pair could not be written without waiting.
func (d *direction) jammed() bool {
	return d.stuck() || d.filtered != nil && d.filtered.opposite.d.stuck() || len(d.from.Socket.pending) > 0
}

// deliverNow is deliver without waiting. What cannot be written goes to the leftover; the
// error is that of the source.
func (d *direction) deliverNow(s *Session, b []byte) error {
	switch {
	case len(b) == 0:
		return nil
	case d.filtered != nil:
		return d.filtered.deliver(s, b, true)
	}
	n, err := d.follow(s, b, true)
	_ = d.write(b[:n], true)
	return err
}

// carried returns how many bytes of the leftover are to be written.
func (d *direction) carried() int {
	if d.leftover == nil {
		return 0
	}
	return len(d.leftover.carry)
}

// stuck reports whether something could not be written without waiting.
func (d *direction) stuck() bool {
	return d.leftover != nil || len(d.to.Socket.pending) > 0
}

// write writes all of b. With now it does not wait: the leftover gets what the socket does
// not take, and the error if there is one.
func (d *direction) write(b []byte, now bool) error {
	switch {
	case len(b) == 0:
		return nil
	case d.carried() > 0:
		d.leftover.carry = append(d.leftover.carry, b...)
		return nil
	case !now:
		n, err := d.to.write(b)
		d.moved.Add(int64(n))
		return err
	}
	n, err := d.to.writeNow(b)
	d.moved.Add(int64(n))
	switch {
	case err != nil:
		d.leftovers().writeErr = err
	case n < len(b):
		d.leftovers().carry = slices.Clone(b[n:])
	}
	return err
}

// deliver shows b, which r has read, to the filter and the framer and passes it on. A
// fault of the source counts only after what came before it has been written.
func (d *direction) deliver(s *Session, b []byte, r *reader) error {
	switch {
	case len(b) == 0:
		return nil
	case d.filtered != nil:
		return d.filtered.deliver(s, b, false)
	}
	n, err := d.follow(s, b, false)
	writeErr := error(nil)
	if d.paced != nil { // b may be what was held, and not r's
		writeErr = d.write(b[:n], false)
	} else {
		writeErr = d.pass(b[:n], r)
	}
	if writeErr != nil {
		return &fault{in: writing, err: writeErr}
	}
	return err
}

// pass writes b, which r has read. While it waits for a receiver that took only a part, it
// holds no more memory than it needs, because thousands of receivers may stall at once.
func (d *direction) pass(b []byte, r *reader) error {
	n, err := d.to.offer(b)
	d.moved.Add(int64(n))
	if err != nil || n == len(b) {
		return err
	}
	b = b[n:]
	if len(b) <= len(r.buf.b)/2 {
		b = slices.Clone(b)
		r.release()
	}
	n, err = d.to.write(b)
	d.moved.Add(int64(n))
	return err
}

// follow shows b to the framer and returns how many bytes of it may be passed on. The error
// is errLast or a refusal. With a source's last packet the pair is over, which is recorded
// before the packet is passed on, because the receiver may close as soon as it has read it.
// Locked is set if s.mu is held.
func (d *direction) follow(s *Session, b []byte, locked bool) (n int, err error) {
	if d.framer == nil {
		return len(b), nil
	}
	n, err = d.framer.Advance(b)
	switch {
	case err == nil:
		return n, nil
	case err != io.EOF:
		refused := &fault{in: judging, err: err}
		if words, ok := d.framer.(Refuser); ok {
			refused.refusal = words.Refusal(err)
		}
		return n, refused
	case !locked:
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	s.conclude(d.side, nil)
	return n, errLast
}

// sendLast sends packet as the last one, if the receiver is between two packets, and then
// the end of stream. It reports whether packet was sent.
func (d *direction) sendLast(packet []byte) (sent bool) {
	if d.closed {
		return false
	}
	d.closed = true
	if len(packet) > 0 && d.framer != nil && d.framer.AtBoundary() {
		_, err := d.to.write(packet)
		sent = err == nil
	}
	d.to.closeWrite()
	return sent
}

// blame returns the side that caused a fault of this direction, and the error to report.
func (d *direction) blame(f *fault) (Side, error) {
	switch side := d.side; {
	case f.in == reading || f.in == judging:
		return side, f
	case f.in == writing:
		side = side.other()
		fallthrough
	default:
		if errors.Is(f, os.ErrDeadlineExceeded) {
			return side, ErrStalled
		}
		return side, f
	}
}

// fault is why a direction did not end in order.
type fault struct {
	in      activity
	err     error
	refusal []byte // the packet that refuses what the client sent, or nil
}

// activity is what a direction was doing when a fault occurred.
type activity uint8

const (
	reading   activity = iota
	judging            // a framer or a filter has refused what was read
	writing            // to the receiver
	answering          // to the source, on behalf of a filter
)

func (f *fault) Error() string {
	return [...]string{"read: ", "read: ", "write: ", "answer: "}[f.in] + f.err.Error()
}

func (f *fault) Unwrap() error { return f.err }

// endOfStream reports whether err is an orderly end. A TLS peer that closes its
// socket without close_notify ends in order as well: MQTT has a DISCONNECT of its own, and
// many devices never send the alert.
func endOfStream(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
