package relay

import "time"

// ending is the time when the second direction of a pair has to end.
type ending struct {
	by    time.Time
	timer *time.Timer // ends the wait of a pair in a loop; nil if goroutines wait
}

// endQuietly ends d without goroutines, if its source has ended in order and the receiver has
// taken everything. With the second direction it closes both connections. It reports false if the
// rest needs goroutines. s.mu is held, and a loop serves the pair.
func (s *Session) endQuietly(d *direction) bool {
	other := s.opposite(d)
	if !s.endsInOrder(d) {
		return false
	}
	s.conclude(d.side, nil)
	d.sourceDone = d.sourceDone || d.leftover.err != errLast
	if !other.parked && s.waitsForClient() {
		return false
	}
	if other.parked || d.to.layered() { // otherwise closing the socket says enough
		if !s.closeWriteNow(d.to) {
			return false
		}
	}
	if d.filtered != nil {
		d.filtered.close()
		d.filtered.turns = 0
	}
	d.leftover, d.parked, d.closed = nil, false, true
	s.running.Add(-1)
	if other.parked {
		s.awaitQuietly(other)
	} else {
		s.closeQuietly()
	}
	return true
}

// endsInOrder reports whether d has nothing left but an orderly end of its source. s.mu is held.
func (s *Session) endsInOrder(d *direction) bool {
	left := d.leftover
	switch {
	case left == nil, left.writeErr != nil, len(left.carry) > 0:
		return false
	case s.cut != nil, d.paced != nil, s.opposite(d).stuck(), !d.filtered.idle():
		return false
	case len(d.from.Socket.pending) > 0, len(d.to.Socket.pending) > 0:
		return false
	}
	return left.err == errLast || endOfStream(left.err)
}

// waitsForClient reports whether the client of a pair both directions of which have ended in order
// must be read until it closes. A plain client need not if nothing has come after its last packet,
// which nothing may follow: then closing the socket does not reset the connection, and the client
// gets all that the upstream has sent. With TLS or WebSocket an alert or a frame follows the last
// packet. If that met a closed socket, the kernel would reset the connection and drop what it has not
// sent yet.
func (s *Session) waitsForClient() bool {
	if s.by != Client || s.up.sourceDone {
		return false
	}
	if s.up.emptied {
		s.up.discardNow(&s.pump.buffers)
	}
	return !s.up.sourceDone && (!s.up.emptied || s.client.layered())
}

// closeWriteNow sends an end of stream on every layer of a detached end. It reports false if that
// has to wait. Like at any other end, a panic in a layer does not keep the pair from ending.
func (s *Session) closeWriteNow(e *Stack) bool {
	if e.layered() {
		func() {
			defer func() { s.pump.recoverPanic(recover()) }()
			_ = e.Conn.CloseWrite()
		}()
	}
	if len(e.Socket.pending) > 0 {
		return false
	}
	_ = shutdownWrite(e.Socket.in)
	return true
}

// awaitQuietly is await for a pair that stays in its loop. When the time is over, goroutines end
// the pair. s.mu is held.
func (s *Session) awaitQuietly(d *direction) {
	limit := s.timeAfter(d)
	s.endBy = &ending{by: time.Now().Add(limit), timer: time.AfterFunc(limit, s.overdue)}
}

// overdue is what the timer of awaitQuietly does.
func (s *Session) overdue() {
	defer func() { s.pump.recoverPanic(recover()) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loop != nil {
		s.resume()
	}
}

// closeQuietly closes both connections of a pair both directions of which have ended. s.mu is
// held.
func (s *Session) closeQuietly() {
	if s.endBy != nil && s.endBy.timer != nil {
		s.endBy.timer.Stop()
	}
	l := s.loop
	s.loop, s.gone = nil, true
	for _, e := range []*Stack{&s.upstream, &s.client} {
		fd := e.Socket.in
		e.Socket.in = noDescriptor
		l.set(int(fd), nil) // before another socket can have the descriptor
		closeDescriptor(fd) // which also takes it out of the loop's epoll descriptor
	}
	s.pump.quiet.Add(-1)
}

// discardNow reads what the source has sent after the end of d. It notices what has to be known
// before the socket is closed. s.mu is held, and a loop serves the pair.
func (d *direction) discardNow(p *buffers) {
	b := p.get(smallBuffer)
	defer p.put(b)
	n, err := readNow(d.from.Socket.in, b.b)
	d.sourceDone = d.sourceDone || err != nil && !again(err)
	d.emptied = n < len(b.b)
}

// leave unlocks s.mu, which a loop holds, and reports the end of the pair if it has just ended.
func (s *Session) leave() {
	gone := s.gone
	s.mu.Unlock()
	if gone {
		defer s.pump.live.Done()
		defer s.pump.forget(s)
		s.report()
	}
}
