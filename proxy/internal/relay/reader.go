package relay

import "sync/atomic"

// reader reads from an end. It has a buffer only between next and release. It is for one
// goroutine at a time.
type reader struct {
	end  *Stack
	pool *buffers
	try  func(fd uintptr) bool // r.tryRead, made once: a closure a read would cost an allocation

	input tlsInput // zero unless end is TLS with which a lent buffer can be used
	lent  *buffer  // lent to input while that holds bytes

	buf  *buffer
	n    int
	err  error
	bulk bool // the last read did not fit into a small buffer
	// shortRead limits a read to a small buffer, or to one TLS record: what follows may be
	// spliced, or is filtered. What the TLS connection has read then waits in memory of its own,
	// which is less than a record or less than a small buffer, and not in a lent buffer.
	shortRead bool
	paced     bool // the same, for a source with a pacer
	records   bool // whole TLS records wait

	drained *atomic.Bool // whether the last try found nothing
}

func newReader(e *Stack, pool *buffers) *reader {
	r := &reader{pool: pool}
	r.try = r.tryRead
	r.attach(e)
	return r
}

func (r *reader) attach(e *Stack) {
	r.end, r.input, r.lent = e, tlsInput{}, nil
	if c := e.TLS; c != nil && (e.Socket.raw != nil || e.Socket.in != noDescriptor) {
		if o := lendable(); o != nil {
			r.input = o.of(c)
		}
	}
}

// detach ends the work on an end that a goroutine continues with. A buffer that is still lent
// stays with the TLS connection until then.
func (r *reader) detach() {
	r.release()
	r.end, r.input, r.lent = nil, tlsInput{}, nil
}

// next waits until the source has bytes, and returns all that are ready, up to one large
// buffer. It may return bytes together with an error. They are valid until release, which
// must be called in any case.
//
// next reads once before it waits: the runtime's poller does not report what was ready
// before, and TLS may hold bytes that arrived long ago.
func (r *reader) next() ([]byte, error) {
	r.n, r.err = 0, nil
	if r.end.Socket.raw == nil {
		r.buf = r.pool.get(smallBuffer)
		r.n, r.err = r.end.read(r.buf.b)
		return r.buf.b[:r.n], r.err
	}
	if err := r.end.Socket.raw.Read(r.try); err != nil && r.err == nil {
		r.err = err
	}
	if r.buf == nil {
		return nil, r.err
	}
	return r.buf.b[:r.n], r.err
}

// tryRead reads all that is ready. If nothing is ready it reports false and keeps no buffer.
func (r *reader) tryRead(fd uintptr) bool {
	r.end.Socket.in = descriptor(fd)
	some := r.tryNow()
	r.end.Socket.in = noDescriptor
	r.drained.Store(!some)
	return some
}

// tryNow is tryRead for a socket that is detached.
func (r *reader) tryNow() bool {
	r.n, r.err = 0, nil
	r.read()
	if r.lent != nil && (r.little() || !r.input.ready()) {
		r.records = r.input.ready()
		r.input.takeBack()
		r.pool.put(r.lent)
		r.lent = nil
	}
	if r.n > 0 || r.err != nil {
		return true
	}
	r.release()
	return false
}

// little reports whether little is read at a time.
func (r *reader) little() bool { return r.shortRead || r.paced }

func (r *reader) read() {
	size, short := smallBuffer, r.little()
	if r.records = false; r.bulk && !short {
		size = largeBuffer
	}
	r.buf = r.pool.get(size)
	r.fill()
	if r.n == smallBuffer && size == smallBuffer && !short && r.err == nil {
		r.enlarge()
		r.fill()
	}
	if !short {
		r.bulk = r.n > smallBuffer
	}
	if short && r.input.raw != nil {
		r.finishRecord()
	}
}

// enlarge moves what has been read to a large buffer.
func (r *reader) enlarge() {
	small := r.buf
	r.buf = r.pool.get(largeBuffer)
	copy(r.buf.b, small.b)
	r.pool.put(small)
}

// finishRecord reads the rest of a TLS record of which a part has been read. It is at most
// maxPlaintext.
func (r *reader) finishRecord() {
	if r.input.opened.Len() > 0 && len(r.buf.b) == smallBuffer {
		r.enlarge()
	}
	for r.input.opened.Len() > 0 && r.n < len(r.buf.b) && r.err == nil {
		m, err := r.end.read(r.buf.b[r.n:])
		if r.n += m; !again(err) {
			r.err = err
		}
	}
}

// more reports whether the source is likely to have more ready than was read.
func (r *reader) more() bool {
	return r.n == largeBuffer || r.lent != nil || r.records || r.little() && r.n >= smallBuffer
}

// fill reads until the source is empty or the buffer is full. A plain socket that returns less
// than was asked for is empty. TLS returns one record at a time and is read until it returns
// EAGAIN, which can come together with bytes.
func (r *reader) fill() {
	if r.input.raw != nil {
		r.fillLending()
		return
	}
	plain := !r.end.layered()
	for r.n < len(r.buf.b) {
		m, err := r.end.read(r.buf.b[r.n:])
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

// fillLending is fill for a TLS connection that reads into a lent buffer.
func (r *reader) fillLending() {
	if r.lent == nil {
		r.lent = r.pool.get(lendBuffer)
		r.input.lend(r.lent.b)
	}
	socketEmpty := false
	for r.n < len(r.buf.b) {
		if !r.input.ready() {
			if socketEmpty {
				return
			}
			r.input.lend(r.lent.b)
			room := r.lent.b[r.input.raw.Len():]
			if r.little() {
				room = room[:min(len(room), r.input.missing())]
			}
			m, err := readNow(r.end.Socket.in, room)
			r.input.received(r.lent.b, m)
			if again(err) {
				return
			}
			if r.err = err; err != nil {
				return
			}
			socketEmpty = m < len(room)
			continue
		}
		m, err := r.end.read(r.buf.b[r.n:])
		r.n += m
		if err != nil && !again(err) {
			r.err = err
			return
		}
	}
}

// full reports whether the last read has filled its buffer.
func (r *reader) full() bool { return r.buf != nil && r.n == len(r.buf.b) }

func (r *reader) release() {
	r.pool.put(r.buf)
	r.buf = nil
}
