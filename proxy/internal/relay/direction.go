package relay

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"
)

// direction moves bytes from one end to the other. What serves the pair, its goroutine
// or a loop, alone touches it, except for moved, dry and parked.
type direction struct {
	from, to *end
	framer   Framer
	filtered *filtered // nil if neither direction of the pair is
	left     *leftover // nil unless a loop has left something
	moved    atomic.Int64

	// dry is set while the source is known to hold nothing, not even inside of TLS.
	dry    atomic.Bool
	side   Side // whose bytes these are
	parked bool // there is no goroutine; guarded by the session's mu
	ended  bool // nothing is left to read: the source has closed, or failed
	broken bool // the receiver cannot be told anything more
	closed bool // the receiver has been told that nothing more will come, or is broken

	// Of the events that a loop has seen since the pair was parked; guarded by the
	// session's mu.
	waiting bool // one waits for its turn
	hungUp  bool // one has announced an end
}

// leftover is what a loop has read and could not pass on, because of writeErr if that
// is set, and what has ended the source.
type leftover struct {
	carry         []byte
	err, writeErr error
}

// leave returns where a loop leaves what it could not pass on.
func (d *direction) leave() *leftover {
	if d.left == nil {
		d.left = &leftover{}
	}
	return d.left
}

// errLast ends a direction whose source has sent its last packet.
var errLast = errors.New("last packet")

// copy moves bytes until the source ends, which is nil, or something fails, or
// the pair is parked.
func (d *direction) copy(s *Session) error {
	if done, err := d.unload(); done {
		return err
	}
	r := newReader(d.from, &s.pump.buffers)
	r.dry = &d.dry
	for {
		b, readErr := r.next()
		err := d.deliver(s, b, r)
		full := r.full()
		r.release()
		r.brief = false
		if full && err == nil && readErr == nil {
			readErr, err = d.passUnseen(&s.pump.pipes, r)
		}
		if err == nil && errors.Is(readErr, os.ErrDeadlineExceeded) {
			if readErr = s.interrupted(d, readErr); readErr == errParked {
				return errParked
			}
		}
		if done, err := d.over(err, readErr); done {
			return err
		}
	}
}

// unload passes on what a loop has left.
func (d *direction) unload() (done bool, err error) {
	if d.filtered != nil {
		d.filtered.out.Lock()
		defer d.filtered.out.Unlock()
	}
	var left leftover
	if d.left != nil {
		left = *d.left
	}
	if left.writeErr != nil {
		return d.over(&fault{in: writing, err: left.writeErr}, nil)
	}
	d.left = nil
	n, err := d.to.flush(left.carry)
	d.moved.Add(int64(n))
	if err != nil {
		return d.over(&fault{in: writing, err: err}, nil)
	}
	return d.over(nil, left.err)
}

// over reports whether the direction has come to its end, and which: err if what was
// read last could not be delivered, else readErr.
func (d *direction) over(err, readErr error) (bool, error) {
	if err == nil {
		err = readErr
	}
	f, _ := err.(*fault)
	switch {
	case err == nil:
		return false, nil
	case err == errLast:
		return true, nil // the source may go on, but that does not matter any more
	case f == nil && endOfStream(err):
		d.ended = true
		return true, nil
	case f == nil:
		f = &fault{in: reading, err: err}
		d.ended = !errors.Is(err, os.ErrDeadlineExceeded)
	case f.in == writing:
		d.broken, d.closed = true, true
	}
	return true, f
}

// forward moves what is ready without waiting, on behalf of a loop. It reports false
// if the rest needs a goroutine; the leftover holds it. s.mu is held.
//
// Filtering takes time that other pairs have to wait for. So of a filtered pair little
// is read, and what is more than that needs a goroutine.
func (d *direction) forward(s *Session, r *reader) bool {
	r.attach(d.from)
	r.brief = d.filtered != nil
	defer r.detach()
	if !r.tryNow() {
		return len(d.from.socket.pending) == 0
	}
	b := r.buf.b[:r.n]
	err := r.err
	if fault := d.deliverNow(s, b); fault != nil {
		err = fault
	}
	if err != nil {
		d.leave().err = err
		// An event has announced the end, and a plain socket that returns less than it
		// was asked for is empty.
		d.ended = d.hungUp && !d.from.layered() && !r.full()
	}
	more := r.n == largeBuffer || r.lent != nil || r.brief && r.full()
	return err == nil && !more && !d.stuck() && (d.filtered == nil || !d.filtered.opposite.d.stuck()) &&
		len(d.from.socket.pending) == 0
}

// deliverNow is deliver without waiting. What cannot be written is left; the error is
// that of the source.
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

// carried returns how many bytes a loop has left to be written.
func (d *direction) carried() int {
	if d.left == nil {
		return 0
	}
	return len(d.left.carry)
}

// stuck reports whether something could not be written without waiting.
func (d *direction) stuck() bool {
	return d.left != nil || len(d.to.socket.pending) > 0
}

// write writes b, all of it or, if that has to be now, what goes; carry gets the
// rest, and writeErr the reason if there is more to it than a full socket.
func (d *direction) write(b []byte, now bool) error {
	switch {
	case len(b) == 0:
		return nil
	case d.carried() > 0:
		d.left.carry = append(d.left.carry, b...)
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
		d.leave().writeErr = err
	case n < len(b):
		d.leave().carry = slices.Clone(b[n:])
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
	if writeErr := d.pass(b[:n], r); writeErr != nil {
		return &fault{in: writing, err: writeErr}
	}
	return err
}

// pass writes b, which r has read. If the receiver takes only part of it and has to
// be waited for, little is held meanwhile: thousands of receivers may stand still
// at once.
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

// follow shows b to the framer before it is passed on, and returns how much of it may
// be. The error is errLast or a refusal. A source's last packet decides who ends the
// pair, and it does so before the receiver knows of it and may close, too. Locked says
// that s.mu is held.
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
			refused.words = words.Refusal(err)
		}
		return n, refused
	case !locked:
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	s.conclude(d.side, nil)
	return n, errLast
}

// bid sends packet as the last one, if the receiver stands between two packets,
// and tells the receiver that nothing more will come. It reports whether packet
// was sent.
func (d *direction) bid(packet []byte) (sent bool) {
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

// blame tells which side a fault of this direction belongs to.
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

// fault is why a direction ends if it does not end in order.
type fault struct {
	in    activity
	err   error
	words []byte // that tell the client of a refusal
}

// activity is what a direction did when it met a fault.
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
// socket without close_notify counts as orderly: MQTT has its own DISCONNECT, and
// many devices never send the alert.
func endOfStream(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
