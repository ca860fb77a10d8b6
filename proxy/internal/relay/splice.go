package relay

import (
	"math"
	"sync"
)

// Skipper is an optional power of a [Framer]: what is left of a packet's body may
// then pass without anybody looking at it, and the kernel moves it from socket to
// socket.
type Skipper interface {
	// Remaining returns how many bytes of the packet that has begun are known to come
	// yet; 0 between packets and inside a header.
	Remaining() int
	// Skip notes that n of them, not more, are passed on unseen.
	Skip(n int)
}

// spliceMin is the least that is worth a pipe, in bytes.
const spliceMin = 64 << 10

// spliceable returns how many bytes may pass without anybody looking at them: none unless
// both ends are bare sockets.
func (d *direction) spliceable() int {
	switch {
	case d.filtered != nil || d.from.layered() || d.to.layered():
		return 0
	case d.from.socket.raw == nil || d.to.socket.raw == nil:
		return 0
	case d.framer == nil:
		return math.MaxInt
	}
	if s, ok := d.framer.(Skipper); ok {
		return s.Remaining()
	}
	return 0
}

// spliceBody splices the rest of a body of which r has just read a full buffer, if that
// is worth it. Where it can be done, r shall read little of the next packet.
func (d *direction) spliceBody(p *pipes, r *reader) (readErr, writeErr error) {
	left := d.spliceable()
	if left < spliceMin {
		return nil, nil
	}
	before := d.moved.Load()
	readErr, writeErr = d.splice(p, left)
	r.shortRead = d.moved.Load() > before
	if writeErr != nil {
		writeErr = &fault{in: writing, err: writeErr}
	}
	return readErr, writeErr
}

// splice moves what the source has ready, up to left bytes, by a pipe. It holds the
// pipe only while bytes flow: a source that has nothing is waited for elsewhere.
func (d *direction) splice(p *pipes, left int) (readErr, writeErr error) {
	pipe := p.get()
	if pipe == nil {
		return nil, nil
	}
	defer func() { p.put(pipe) }()
	for left > 0 {
		n, err := pipe.fill(d.from.socket, left)
		if n == 0 || err != nil {
			return err, nil
		}
		left -= n
		if s, ok := d.framer.(Skipper); ok {
			s.Skip(n)
		}
		n, err = d.to.socket.out.drain(pipe)
		d.moved.Add(int64(n))
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Bounds of the pipes of one pump: a receiver that takes nothing keeps its pipe,
// with what is in it, until it is given up. The next ones have to do without.
const (
	maxPipes  = 64
	idlePipes = 8
)

// pipes lends pipes. The zero value is ready to use.
type pipes struct {
	mu   sync.Mutex
	idle []*pipe
	open int
	max  int // at the same time; 0 means maxPipes
}

// LimitPipes bounds the pipes that bulk passes by at the same time, each of which has
// two descriptors. Without it there are at most 64.
func (p *Pump) LimitPipes(n int) {
	p.pipes.mu.Lock()
	defer p.pipes.mu.Unlock()
	p.pipes.max = n
}

// get returns an empty pipe, or nil if there are too many or none can be had.
func (p *pipes) get() *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		last := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return last
	}
	if p.open >= maxPipes || p.max > 0 && p.open >= p.max {
		return nil
	}
	fresh := newPipe()
	if fresh != nil {
		p.open++
	}
	return fresh
}

// put takes a pipe back. One that still holds bytes is never lent again.
func (p *pipes) put(used *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if used.held == 0 && len(p.idle) < idlePipes {
		p.idle = append(p.idle, used)
		return
	}
	used.close()
	p.open--
}

// drop closes the pipes that nobody has borrowed.
func (p *pipes) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, unused := range p.idle {
		unused.close()
	}
	p.open -= len(p.idle)
	p.idle = nil
}
