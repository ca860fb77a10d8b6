package relay

import (
	"errors"
	"net"
	"os"
	"time"
)

// errParked ends a direction's goroutine, but not the direction.
var errParked = errors.New("parked")

// canPark reports whether the pair can do without goroutines.
func (s *Session) canPark() bool {
	return canPark && !s.pump.Goroutines && s.up.from.socket.raw != nil && s.down.from.socket.raw != nil
}

// sweep looks for pairs that moved nothing since the last sweep, and asks both of
// their goroutines to end. It runs as long as there are busy pairs.
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
		if moved := up + down; moved != s.movedAtSweep || !s.up.drained.Load() || !s.down.drained.Load() {
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

// addBusy makes the pair one that sweep looks at.
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

func (s *Session) askToPark() {
	defer func() { s.pump.recoverPanic(recover()) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == running {
		s.state = parking
		s.up.from.stopReading()
		s.down.from.stopReading()
	}
}

// interrupted is asked by the goroutine of d when its read was. It returns errParked
// if the goroutine shall end, nil if it shall go on, and else err.
func (s *Session) interrupted(d *direction, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cut != nil || !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case !s.endBy.IsZero():
		if time.Now().Before(s.endBy) { // this is the deadline set by askToPark
			d.from.readUntil(s.endBy)
			return nil
		}
		return err
	case s.state != parking:
		// The pair has been resumed or is over. Or the caller of Start left a deadline on
		// the connection, with which every read would end at once.
		d.from.readUntil(time.Time{})
		return nil
	case !d.drained.Load():
		// The connection may hold bytes that no event will announce.
		s.resume()
		return nil
	}
	d.parked = true
	if s.up.parked && s.down.parked {
		s.park()
	}
	return errParked
}

// startQuiet begins without goroutines: a thousand devices that connect at once and
// then say little would leave the memory of two thousand stacks behind.
func (s *Session) startQuiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up.parked, s.down.parked = true, true
	s.park()
	r := &reader{pool: &s.pump.buffers}
	for _, d := range []*direction{&s.up, &s.down} {
		// What came with the last bytes that were read before is inside of TLS by
		// now: no event will announce it.
		if s.loop != nil && d.from.layered() && !s.forward(d, r) {
			s.resume()
		}
	}
}

// forward is direction.forward that survives a panic; the pair has got its goroutines
// back then, so that they end it. s.mu is held.
func (s *Session) forward(d *direction, r *reader) (done bool) {
	defer func() {
		if s.pump.recoverPanic(recover()) {
			s.end(CloseNotice{Err: ErrPanic}, NoSide)
			done = true
		}
	}()
	return d.forward(s, r)
}

// park hands the pair to a loop. Neither direction has a goroutine. s.mu is held.
func (s *Session) park() {
	l, err := s.pump.loop()
	if err == nil {
		if err = s.up.from.socket.detach(); err == nil {
			if err = s.down.from.socket.detach(); err == nil {
				err = l.add(s)
			}
		}
	}
	if err != nil {
		s.resume()
		return
	}
	s.loop, s.state = l, quiet
	s.pump.removeBusy(s)
	s.pump.quiet.Add(1)
}

// resume gives goroutines to the directions that have none. s.mu is held.
func (s *Session) resume() {
	if s.loop != nil {
		s.loop.remove(s)
		s.loop = nil
		s.pump.quiet.Add(-1)
		s.pump.escalations.Add(1)
	}
	if s.state != over {
		s.state = running
	}
	for _, d := range []*direction{&s.up, &s.down} {
		if d.parked && d.leftover != nil {
			// Now: the next read may find an orderly end where this was a reset, and the
			// other side may end, too.
			s.concludeFrom(d)
		}
		d.from.socket.attach(s.pump.writeTimeout())
		d.from.readUntil(time.Time{})
	}
	if s.up.parked && s.down.parked {
		s.pump.addBusy(s)
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

// concludeFrom concludes who has ended the pair from what a loop has left of d. s.mu is
// held.
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

// detach leaves the socket with a bare descriptor: reads do not wait, and what a
// write cannot send at once is kept in pending.
func (s *Socket) detach() error {
	fd, err := duplicate(s.raw)
	if err != nil {
		return err
	}
	// The duplicate shares the connection but not its place in the poller.
	_ = s.Conn.Close()
	s.attachment, s.in = detached, fd
	return nil
}

// attach makes the socket ready for goroutines, also after detach.
func (s *Socket) attach(limit time.Duration) {
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
	s.out.queue, s.pending = pending, nil
}

// closedConn stands for the connection of a socket that has only a descriptor.
type closedConn struct{}

func (closedConn) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (closedConn) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (closedConn) Close() error                     { return nil }
func (closedConn) LocalAddr() net.Addr              { return unknownAddr{} }
func (closedConn) RemoteAddr() net.Addr             { return unknownAddr{} }
func (closedConn) SetDeadline(time.Time) error      { return net.ErrClosed }
func (closedConn) SetReadDeadline(time.Time) error  { return net.ErrClosed }
func (closedConn) SetWriteDeadline(time.Time) error { return net.ErrClosed }

// fileConn is a socket that came back from a loop. It has forgotten its addresses.
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
