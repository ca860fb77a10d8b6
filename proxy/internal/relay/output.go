package relay

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// output writes to a connection. It fails if the peer takes nothing for the limit.
type output struct {
	conn net.Conn
	raw  syscall.RawConn       // nil if the connection has no descriptor
	try  func(fd uintptr) bool // o.tryWrite, made once: a closure a write would cost an allocation
	// paced, if not nil, is that of what the peer sends. A peer that is held need not read.
	paced *paced

	writing sync.Mutex // guards the following fields: flush can run at the same time as write
	queue   []byte     // written before everything else

	// The current write.
	b      []byte
	n      int
	err    error
	wait   bool // if the socket is full, wait for room
	waited bool
	more   bool // see writeNow

	mu    sync.Mutex    // guards the following fields and the write deadline
	limit time.Duration // how long to wait without the peer taking a single byte
	until time.Time     // when every wait ends, unless zero
}

func newOutput(conn net.Conn, raw syscall.RawConn, limit time.Duration) *output {
	o := &output{conn: conn, raw: raw, limit: limit}
	o.try = o.tryWrite
	return o
}

// write writes all of b. More is set if another write follows at once.
func (o *output) write(b []byte, more bool) (int, error) {
	if o.raw == nil {
		return o.writeBlocking(b)
	}
	return o.run(b, true, more)
}

// offer writes what the socket takes at once, which may be less than len(b) without an error.
// Without a descriptor it is the same as write.
func (o *output) offer(b []byte) (int, error) {
	if o.raw == nil {
		return o.writeBlocking(b)
	}
	return o.run(b, false, false)
}

// run writes through the descriptor. It sets a deadline only if the socket's buffer is full,
// since a timer for each message would cost more than the message.
func (o *output) run(b []byte, wait, more bool) (int, error) {
	o.writing.Lock()
	defer o.writing.Unlock()
	if len(o.queue) > 0 {
		o.more = false
		n, err := o.runLocked(o.queue, true)
		if o.queue = o.queue[n:]; err != nil {
			return 0, err
		}
		o.queue = nil
	}
	if len(b) == 0 {
		return 0, nil
	}
	o.more = more
	return o.runLocked(b, wait)
}

// flush writes what is queued.
func (o *output) flush() error {
	if o.raw == nil {
		return nil
	}
	_, err := o.run(nil, true, false)
	return err
}

func (o *output) runLocked(b []byte, wait bool) (int, error) {
	o.b, o.n, o.err, o.wait, o.waited = b, 0, nil, wait, false
	err := o.attempt(o.try)
	if o.err != nil {
		err = o.err
	}
	if o.waited && err == nil {
		o.disarm()
	}
	o.b = nil
	return o.n, err
}

// attempt calls try until it is done or the peer has taken nothing for too long.
func (o *output) attempt(try func(fd uintptr) bool) error {
	for {
		if err := o.raw.Write(try); !errors.Is(err, os.ErrDeadlineExceeded) || !o.excused() {
			return err
		}
	}
}

// excused reports whether the deadline is to be ignored, because the peer has been held. It then
// sets the next one. What the caller of finishBy wants still counts.
func (o *output) excused() bool {
	if o.paced == nil || o.expired() {
		return false
	}
	t := o.paced.excuse(o.limit)
	if !time.Now().Before(t) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.until.IsZero() && o.until.Before(t) {
		t = o.until
	}
	_ = o.conn.SetWriteDeadline(t)
	return true
}

func (o *output) tryWrite(fd uintptr) bool {
	for o.n < len(o.b) {
		m, err := writeNow(descriptor(fd), o.b[o.n:], o.more)
		o.n += m
		if again(err) {
			if o.wait {
				o.waited = true
				o.arm()
			}
			return !o.wait
		}
		if err != nil {
			o.err = err
			return true
		}
	}
	return true
}

// writeBlocking repeats the write as long as the peer takes something within the limit.
func (o *output) writeBlocking(b []byte) (n int, err error) {
	for n < len(b) {
		o.arm()
		m, err := o.conn.Write(b[n:])
		for m == 0 && errors.Is(err, os.ErrDeadlineExceeded) && o.excused() {
			m, err = o.conn.Write(b[n:])
		}
		n += m
		if err != nil && (m == 0 || !errors.Is(err, os.ErrDeadlineExceeded) || o.expired()) {
			return n, err
		}
	}
	o.disarm()
	return n, nil
}

func (o *output) arm() {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := time.Now().Add(o.limit)
	if !o.until.IsZero() && o.until.Before(t) {
		t = o.until
	}
	_ = o.conn.SetWriteDeadline(t)
}

func (o *output) disarm() {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.conn.SetWriteDeadline(o.until)
}

func (o *output) expired() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.until.IsZero() && !time.Now().Before(o.until)
}

// finishBy makes every write end by t, including one that waits already.
func (o *output) finishBy(t time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.until.IsZero() || t.Before(o.until) {
		o.until = t
		_ = o.conn.SetWriteDeadline(t)
	}
}
