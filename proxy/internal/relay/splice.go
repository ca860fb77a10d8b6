package relay

import (
	"math"
	"sync"
)

// Skipper is an optional interface of a [Framer] and of a [Filter]. If both have it, the kernel
// may move the rest of a packet's body from socket to socket, and they do not see those bytes.
type Skipper interface {
	// Remaining returns how many bytes of the current packet are known to be still to come, and
	// can be passed on as they are. It is 0 between packets and inside a header.
	Remaining() int
	// Skip records that n of those bytes, and not more, are passed on without Advance or Filter.
	Skip(n int)
}

// spliceMin is the smallest number of bytes for which a pipe pays.
const spliceMin = 64 << 10

// spliceable returns how many bytes the framer, the filter and the pacer do not have to see. It is
// 0 unless both ends are bare sockets.
func (d *direction) spliceable() int {
	switch {
	case d.from.layered() || d.to.layered():
		return 0
	case d.from.Socket.raw == nil || d.to.Socket.raw == nil:
		return 0
	}
	left := math.MaxInt
	if d.framer != nil {
		s, ok := d.framer.(Skipper)
		if !ok {
			return 0
		}
		left = s.Remaining()
	}
	if d.filtered != nil {
		left = d.filtered.spliceable(left)
	}
	if d.paced != nil {
		left = d.paced.spliceable(left)
	}
	return left
}

// spliceBody splices the rest of a body of which r has just read a full buffer, if that pays.
// After it has, r reads little of the next packet, so that most of that can be spliced, too.
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

// splice moves what the source has ready, up to left bytes, through a pipe. It returns the
// pipe as soon as the source has nothing ready, and does not wait for more.
func (d *direction) splice(p *pipes, left int) (readErr, writeErr error) {
	pipe := p.get()
	if pipe == nil {
		return nil, nil
	}
	defer func() { p.put(pipe) }()
	for left > 0 {
		n, err := pipe.fill(d.from.Socket, left)
		if n == 0 || err != nil {
			return err, nil
		}
		left -= n
		if err := d.spliceOut(pipe, n); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// spliceOut passes on the n bytes in the pipe.
func (d *direction) spliceOut(pipe *pipe, n int) error {
	if d.filtered != nil {
		d.filtered.out.Lock()
		defer d.filtered.out.Unlock()
		if err := d.filtered.skip(n); err != nil {
			return err
		}
	}
	if s, ok := d.framer.(Skipper); ok {
		s.Skip(n)
	}
	if d.paced != nil {
		d.paced.pacer.Skip(n)
	}
	n, err := d.to.Socket.out.drain(pipe)
	d.moved.Add(int64(n))
	if err == nil && d.filtered != nil && d.filtered.waiting() > 0 {
		err = d.filtered.sendAnswers(false)
	}
	return err
}

// Limits on the pipes of one pump. A receiver that takes nothing keeps its pipe until the write
// timeout. While all pipes are in use, other pairs copy.
const (
	maxPipes  = 64
	idlePipes = 8
)

// pipes is a pool of pipes. The zero value is ready to use.
type pipes struct {
	mu   sync.Mutex
	idle []*pipe
	open int
	max  int // how many may be open at the same time; 0 means maxPipes
}

// LimitPipes sets how many pipes for bulk may be open at the same time, 64 at most, which is
// also the default for 0. Each has two descriptors.
func (p *Pump) LimitPipes(n int) {
	p.pipes.mu.Lock()
	defer p.pipes.mu.Unlock()
	p.pipes.max = n
}

// get returns an empty pipe, or nil if there are too many or the system refuses one.
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

// put returns a pipe to the pool. A pipe that still holds bytes is closed.
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

// drop closes the pipes that are not in use.
func (p *pipes) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, unused := range p.idle {
		unused.close()
	}
	p.open -= len(p.idle)
	p.idle = nil
}
