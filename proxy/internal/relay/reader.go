package relay

import "net"

// reader reads from an end and holds a buffer only between next and release. One
// goroutine uses it.
type reader struct {
	end  *end
	pool *buffers
	try  func(fd uintptr) bool // r.tryRead, made once: a closure a read would cost an allocation

	buf  *buffer
	n    int
	err  error
	bulk bool // the last read did not fit into a small buffer
}

func newReader(e *end, pool *buffers) *reader {
	r := &reader{end: e, pool: pool}
	r.try = r.tryRead
	return r
}

// next waits until the source has something and returns all that is ready, up to
// one large buffer. Bytes may come together with an error. They are valid until
// release, which has to be called in any case.
//
// The first try comes before any wait and must really read: the runtime forgets a
// readiness that came before it, and TLS may hold bytes that came long ago.
func (r *reader) next() ([]byte, error) {
	r.n, r.err = 0, nil
	if r.end.socket.raw == nil {
		r.buf = r.pool.get(smallBuffer)
		r.n, r.err = r.end.conn.Read(r.buf.b)
		return r.buf.b[:r.n], r.err
	}
	if err := r.end.socket.raw.Read(r.try); err != nil && r.err == nil {
		r.err = err
	}
	if r.buf == nil {
		return nil, r.err
	}
	return r.buf.b[:r.n], r.err
}

// tryRead reads all that is ready. It reports false, and holds nothing, if that is
// nothing.
func (r *reader) tryRead(fd uintptr) bool {
	r.end.socket.in = descriptor(fd)
	r.read()
	r.end.socket.in = noDescriptor
	if r.n > 0 || r.err != nil {
		return true
	}
	r.release()
	return false
}

func (r *reader) read() {
	size := smallBuffer
	if r.bulk {
		size = largeBuffer
	}
	r.buf = r.pool.get(size)
	r.fill()
	if size == smallBuffer && r.n == size && r.err == nil {
		small := r.buf
		r.buf = r.pool.get(largeBuffer)
		copy(r.buf.b, small.b)
		r.pool.put(small)
		r.fill()
	}
	r.bulk = r.n > smallBuffer
}

// fill reads until nothing is left or the buffer is full. A plain socket that
// returns less than it was asked for is empty. TLS returns one record at a time and
// has to be asked until it says so; it may return bytes and "not now" at once.
func (r *reader) fill() {
	plain := r.end.conn == net.Conn(r.end.socket)
	for r.n < len(r.buf.b) {
		m, err := r.end.conn.Read(r.buf.b[r.n:])
		r.n += m
		switch {
		case again(err):
			return
		case err != nil:
			r.err = err
			return
		case plain:
			return
		}
	}
}

func (r *reader) release() {
	r.pool.put(r.buf)
	r.buf = nil
}
