package relay

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"
)

// direction moves bytes from one end to the other. Its goroutine alone touches
// it, but for moved.
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
	ended  bool // the source has ended, in order or not
	lost   bool // the framer has refused what came
	closed bool // the receiver has been told so, or is gone
}

// leftover is what a loop has read and could not pass on, because of writeErr if that
// is set.
type leftover struct {
	carry             []byte
	readErr, writeErr error
}

// leave returns where a loop leaves what it could not pass on.
func (d *direction) leave() *leftover {
	if d.left == nil {
		d.left = &leftover{}
	}
	return d.left
}

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
		framing, writeErr := d.deliver(b, r)
		full := r.full()
		r.release()
		r.brief = false
		if full && framing == nil && writeErr == nil && readErr == nil {
			readErr, writeErr = d.passUnseen(&s.pump.pipes, r)
		}
		if writeErr == nil && framing == nil && errors.Is(readErr, os.ErrDeadlineExceeded) {
			if readErr = s.interrupted(d, readErr); readErr == errParked {
				return errParked
			}
		}
		if done, err := d.over(framing, writeErr, readErr); done {
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
		return d.over(nil, left.writeErr, nil)
	}
	d.left = nil
	n, err := d.to.flush(left.carry)
	d.moved.Add(int64(n))
	return d.over(nil, err, left.readErr)
}

// over reports whether the direction has come to its end, and which.
func (d *direction) over(framing, writeErr, readErr error) (bool, error) {
	switch {
	case framing != nil:
		d.lost = true
		return true, &readError{framing}
	case writeErr != nil:
		d.closed = true
		return true, &writeError{writeErr}
	case readErr == nil:
		return false, nil
	case endOfStream(readErr):
		d.ended = true
		return true, nil
	}
	d.ended = !errors.Is(readErr, os.ErrDeadlineExceeded)
	return true, &readError{readErr}
}

// forward moves what is ready without waiting, on behalf of a loop. It reports false
// if the rest needs a goroutine; the leftover holds it.
func (d *direction) forward(r *reader) bool {
	r.attach(d.from)
	defer r.release()
	if !r.tryNow() {
		return len(d.from.socket.pending) == 0
	}
	b := r.buf.b[:r.n]
	err := r.err
	if refused := d.deliverNow(b); refused != nil {
		d.lost, err = true, refused
	}
	if err != nil {
		d.leave().readErr = err
	}
	more := r.n == largeBuffer || r.lent != nil
	return err == nil && !more && !d.stuck() && (d.filtered == nil || !d.filtered.opposite.d.stuck()) &&
		len(d.from.socket.pending) == 0
}

// deliverNow is deliver without waiting.
func (d *direction) deliverNow(b []byte) (refused error) {
	switch {
	case len(b) == 0:
		return nil
	case d.filtered != nil:
		refused, _ = d.filtered.deliver(b, true)
		return refused
	}
	if refused = d.follow(b); refused == nil {
		_ = d.write(b, true)
	}
	return refused
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
	case d.left != nil && len(d.left.carry) > 0:
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

// deliver shows b, which r has read, to the filter and the framer and passes it on.
func (d *direction) deliver(b []byte, r *reader) (refused, writeErr error) {
	switch {
	case len(b) == 0:
		return nil, nil
	case d.filtered != nil:
		return d.filtered.deliver(b, false)
	}
	if err := d.follow(b); err != nil {
		return err, nil
	}
	return nil, d.pass(b, r)
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

// follow shows b to the framer before it is passed on. Whoever fails to write all
// of it must not look at the boundary afterwards.
func (d *direction) follow(b []byte) error {
	if d.framer == nil {
		return nil
	}
	return d.framer.Advance(b)
}

// bid sends packet as the last one, if the receiver stands between two packets,
// and tells the receiver that nothing more will come. It reports whether packet
// was sent.
func (d *direction) bid(packet []byte) (sent bool) {
	if d.closed {
		return false
	}
	d.closed = true
	if len(packet) > 0 && d.framer != nil && !d.lost && d.framer.AtBoundary() {
		_, err := d.to.write(packet)
		sent = err == nil
	}
	d.to.closeWrite()
	return sent
}

// blame tells which side an error of this direction belongs to.
func (d *direction) blame(err error) (Side, error) {
	var w *writeError
	switch {
	case !errors.As(err, &w):
		return d.side, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return d.side.other(), ErrStalled
	}
	return d.side.other(), err
}

type readError struct{ err error }

func (e *readError) Error() string { return "read: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

type writeError struct{ err error }

func (e *writeError) Error() string { return "write: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// endOfStream reports whether err is an orderly end. A TLS peer that closes its
// socket without close_notify counts as orderly: MQTT has its own DISCONNECT, and
// many devices never send the alert.
func endOfStream(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
