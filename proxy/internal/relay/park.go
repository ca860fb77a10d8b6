package relay

import (
	"errors"
	"net"
	"os"
	"time"
)

// errParked is the reason why the goroutine of a direction ends when the direction does not.
var errParked = errors.New("parked")

// canPark reports whether a loop can serve the pair.
func (s *Session) canPark() bool {
	return canPark && !s.pump.Goroutines && s.up.from.Socket.raw != nil && s.down.from.Socket.raw != nil
}

// sweep looks for pairs that have moved nothing since the last sweep, and asks both of their
// goroutines to end. It runs repeatedly as long as there are busy pairs.
func (p *Pump) sweep() {
	defer p.sweepAgain()
	for _, s := range p.unmoved() {
		s.askToPark()
	}
}

// unmoved returns the busy pairs that have moved nothing since it was last called.
func (p *Pump) unmoved() (found []*Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.busy {
		up, down := s.Bytes()
		if s.up.paced != nil && s.up.paced.holding.Load() {
			up = 0 // what a pacer lets pass is little, and a loop can do that
		}
		if moved := up + down; moved != s.movedAtSweep || !s.up.empty() || !s.down.empty() {
			s.movedAtSweep = moved
			continue
		}
		found = append(found, s)
	}
	return found
}

func (p *Pump) sweepAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sweeping = len(p.busy) > 0; p.sweeping {
		p.timer.Reset(p.quietAfter())
	} else {
		p.pipes.drop()
	}
}

// addBusy adds a pair for sweep to look at.
func (p *Pump) addBusy(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy == nil {
		p.busy = make(map[*Session]struct{})
	}
	p.busy[s] = struct{}{}
	p.anyBusy.Store(true)
	s.movedAtSweep = -1
	switch {
	case p.timer == nil:
		p.timer = time.AfterFunc(p.quietAfter(), p.sweep)
	case !p.sweeping:
		p.timer.Reset(p.quietAfter())
	}
	p.sweeping = true
}

func (p *Pump) removeBusy(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, s)
	p.anyBusy.Store(len(p.busy) > 0)
}

// askToPark asks both goroutines of the pair to end, by a deadline that ends their reads.
func (s *Session) askToPark() {
	defer func() { s.pump.recoverPanic(recover()) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == running {
		s.state = parking
		s.up.stopReading()
		s.down.stopReading()
	}
}

// interrupted handles a read of d that failed with err because of a deadline. The goroutine of d
// calls it. It returns errParked if the goroutine must end because a loop serves the pair now, nil
// if the goroutine must read again, and err if the direction has ended.
func (s *Session) interrupted(d *direction, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cut != nil || !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case s.endBy != nil:
		if time.Now().Before(s.endBy.by) { // this is the deadline set by askToPark
			d.readUntil(s.endBy.by)
			return nil
		}
		return err
	case s.state != parking:
		// The pair has been resumed or is over. Or the caller of Start left a deadline on
		// the connection, with which every read would end at once.
		d.readUntil(time.Time{})
		return nil
	case !d.empty(), s.down.filtered.sending():
		// The connection may hold bytes for which there will be no event, or Send writes to it.
		s.resume()
		return nil
	}
	d.parked = true
	if s.up.parked && s.down.parked {
		s.park()
	}
	return errParked
}

// startQuiet starts a pair without goroutines. Otherwise a thousand devices that connect at
// once and then send little would leave the memory of two thousand stacks behind.
func (s *Session) startQuiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up.parked, s.down.parked = true, true
	s.park()
	r := &reader{pool: &s.pump.buffers}
	for _, d := range []*direction{&s.up, &s.down} {
		// TLS may hold bytes that arrived together with those read before Start, and for
		// which there will be no event.
		if s.loop != nil && d.from.layered() && (!s.forward(d, r) || d.filtered != nil && d.filtered.turns > 0) {
			s.resume()
		}
	}
}

// forward is direction.forward. After a panic it gives the pair its goroutines back, which
// then end the pair. s.mu is held.
func (s *Session) forward(d *direction, r *reader) (done bool) {
	defer func() {
		if s.pump.recoverPanic(recover()) {
			s.end(CloseNotice{Err: ErrPanic}, NoSide)
			done = true
		}
	}()
	return d.forward(s, r)
}

// park hands the pair, which has no goroutine, to a loop. s.mu is held.
func (s *Session) park() {
	l, err := s.pump.loop()
	if err == nil {
		if err = s.up.from.Socket.detach(); err == nil {
			if err = s.down.from.Socket.detach(); err == nil {
				err = l.add(s)
			}
		}
	}
	if err != nil {
		s.resume()
		return
	}
	s.loop, s.state = l, quiet
	if s.up.paced != nil && len(s.up.paced.held) > 0 {
		l.pause(s, &s.up)
	}
	s.pump.removeBusy(s)
	s.pump.quiet.Add(1)
}

// resume starts a goroutine for each parked direction. s.mu is held.
func (s *Session) resume() {
	if s.loop != nil {
		if s.endBy != nil {
			s.endBy.timer.Stop()
		}
		s.loop.remove(s)
		s.loop = nil
		s.pump.quiet.Add(-1)
		s.pump.escalations.Add(1)
	}
	if s.state != over {
		s.state = running
	}
	for _, d := range []*direction{&s.up, &s.down} {
		if d.filtered != nil {
			d.filtered.turns = 0
		}
		if d.parked && d.leftover != nil {
			// This cannot wait for the goroutine: after a reset, its read may find an orderly
			// end, and the other side may end first.
			s.concludeFrom(d)
		}
	}
	s.attach()
	s.up.readUntil(time.Time{})
	s.down.readUntil(time.Time{})
	switch {
	case s.up.parked && s.down.parked:
		s.pump.addBusy(s)
	case s.endBy == nil:
	case s.up.parked: // the other direction has ended in the loop, and so on
		s.limitInOrder(&s.up, s.endBy.by)
	case s.down.parked:
		s.limitInOrder(&s.down, s.endBy.by)
	}
	if s.up.parked {
		s.up.parked = false
		go s.runUp()
	}
	if s.down.parked {
		s.down.parked = false
		go s.runDown()
	}
}

// attach makes both sockets ready for use by goroutines.
func (s *Session) attach() {
	s.client.Socket.attach(s.pump.writeTimeout(), s.up.paced)
	s.upstream.Socket.attach(s.pump.writeTimeout(), nil)
}

// empty reports whether no event of the source can be missed by a loop: it has nothing ready,
// or a pacer has the loop read later on.
func (d *direction) empty() bool {
	return d.drained.Load() || d.paced != nil && d.paced.holding.Load()
}

// concludeFrom records who has ended the pair if the leftover of d shows that. s.mu is held.
func (s *Session) concludeFrom(d *direction) {
	err := d.leftover.err
	f, _ := err.(*fault)
	switch {
	case d.leftover.writeErr != nil:
		s.conclude(d.blame(&fault{in: writing, err: d.leftover.writeErr}))
	case err == nil:
	case err == errLast || endOfStream(err):
		s.conclude(d.side, nil)
	case f != nil:
		s.conclude(d.blame(f))
	default:
		s.conclude(d.blame(&fault{in: reading, err: err}))
	}
}

// detach reduces the socket to a bare descriptor. Reads then do not wait, and pending keeps
// what a write cannot send at once.
func (s *Socket) detach() error {
	fd, err := duplicate(s.raw)
	if err != nil {
		return err
	}
	// The duplicate has the same connection, but is not in the runtime's poller.
	_ = s.Conn.Close()
	s.attachment, s.in = detached, fd
	return nil
}

// attach makes the socket ready for use by goroutines, at the start and after detach. The pacer,
// if not nil, is that of what the peer sends.
func (s *Socket) attach(limit time.Duration, pacer *paced) {
	if s.out != nil {
		return
	}
	pending := s.pending
	if s.in != noDescriptor {
		f := os.NewFile(uintptr(s.in), "socket")
		raw, _ := f.SyscallConn() // fails for a nil file only
		s.attachment, s.in = &attachment{Conn: &fileConn{File: f}, raw: raw}, noDescriptor
	}
	s.out = newOutput(s.Conn, s.raw, limit)
	s.out.queue, s.out.paced, s.pending = pending, pacer, nil
}

// closedConn takes the place of the connection of a detached socket.
type closedConn struct{}

func (closedConn) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (closedConn) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (closedConn) Close() error                     { return nil }
func (closedConn) LocalAddr() net.Addr              { return unknownAddr{} }
func (closedConn) RemoteAddr() net.Addr             { return unknownAddr{} }
func (closedConn) SetDeadline(time.Time) error      { return net.ErrClosed }
func (closedConn) SetReadDeadline(time.Time) error  { return net.ErrClosed }
func (closedConn) SetWriteDeadline(time.Time) error { return net.ErrClosed }

// fileConn is the connection of a socket that was detached before. Its addresses are unknown.
type fileConn struct{ *os.File }

func (*fileConn) LocalAddr() net.Addr  { return unknownAddr{} }
func (*fileConn) RemoteAddr() net.Addr { return unknownAddr{} }

func (c *fileConn) CloseWrite() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var shutErr error
	err = raw.Control(func(fd uintptr) { shutErr = shutdownWrite(descriptor(fd)) })
	return errors.Join(err, shutErr)
}

type unknownAddr struct{}

func (unknownAddr) Network() string { return "relay" }
func (unknownAddr) String() string  { return "unknown" }
