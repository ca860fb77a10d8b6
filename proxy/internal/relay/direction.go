package relay

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
)

// direction moves bytes from one end to the other. Its goroutine alone touches
// it, but for moved.
type direction struct {
	from, to *end
	side     Side // whose bytes these are
	framer   Framer
	broken   bool // the framer lost the boundaries
	moved    atomic.Int64
}

// copy moves bytes until the source ends, which is nil, or something fails.
func (d *direction) copy() error {
	for {
		buf, n, readErr := d.from.gather()
		var writeErr error
		if n > 0 {
			writeErr = d.pass(buf.b[:n])
		}
		d.from.giveBack(buf)
		switch {
		case writeErr != nil:
			return writeErr
		case endOfStream(readErr):
			return nil
		case readErr != nil:
			return &readError{readErr}
		}
	}
}

func (d *direction) pass(b []byte) error {
	n, err := d.to.conn.Write(b)
	d.moved.Add(int64(n))
	if d.framer != nil && !d.broken {
		d.broken = d.framer.Advance(b[:n]) != nil
	}
	if err != nil {
		return &writeError{err}
	}
	return nil
}

// atBoundary reports whether the receiver stands between two packets.
func (d *direction) atBoundary() bool {
	return d.framer != nil && !d.broken && d.framer.AtBoundary()
}

// blame tells which side an error of this direction belongs to.
func (d *direction) blame(err error) (Side, error) {
	other := Client
	if d.side == Client {
		other = Upstream
	}
	var w *writeError
	if errors.As(err, &w) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return other, ErrStalled
		}
		return other, err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return d.side, errors.New("did not close in time")
	}
	return d.side, err
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
