package relay

import (
	"io"

	"golang.org/x/sys/unix"
)

// pipeSize is how much a pipe is asked to hold, in bytes. The kernel may give less.
const pipeSize = 256 << 10

// pipe holds bytes on their way from one socket to another.
type pipe struct {
	r, w  int
	held  int // bytes in the pipe
	limit int // of the next fill
	err   error

	in, out func(fd uintptr) bool // method values, made once because each costs an allocation
	output  *output               // of the current drain
}

// newPipe returns nil if the system refuses a pipe.
func newPipe() *pipe {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	p := &pipe{r: fds[0], w: fds[1]}
	p.in, p.out = p.spliceIn, p.spliceOut
	return p
}

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// fill takes up to limit bytes from the socket without waiting. It returns 0 without an error
// if there are none, or if this socket cannot be spliced.
func (p *pipe) fill(from *Socket, limit int) (int, error) {
	p.limit, p.err = min(limit, pipeSize), nil
	if err := from.raw.Read(p.in); err != nil {
		return 0, err
	}
	return p.held, p.err
}

func (p *pipe) spliceIn(fd uintptr) bool {
	n, err := splice(int(fd), p.w, p.limit)
	switch {
	case err == unix.EAGAIN || err == unix.EINVAL:
	case err != nil:
		p.err = err
	case n == 0:
		p.err = io.EOF
	default:
		p.held = n
	}
	return true
}

// drain writes all that p holds, with the same limits as write.
func (o *output) drain(p *pipe) (int, error) {
	if err := o.flush(); err != nil {
		return 0, err
	}
	o.writing.Lock()
	defer o.writing.Unlock()
	had := p.held
	p.output, p.err, o.waited = o, nil, false
	err := o.attempt(p.out)
	if p.err != nil {
		err = p.err
	}
	if o.waited && err == nil {
		o.disarm()
	}
	p.output = nil
	return had - p.held, err
}

func (p *pipe) spliceOut(fd uintptr) bool {
	for p.held > 0 {
		n, err := splice(p.r, int(fd), p.held)
		switch {
		case err == unix.EAGAIN:
			p.output.waited = true
			p.output.arm()
			return false
		case err != nil:
			p.err = err
			return true
		}
		p.held -= n
	}
	return true
}

// splice never waits, neither for the pipe nor for the socket, which does not block.
func splice(from, to, n int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != unix.EINTR {
			return int(moved), err
		}
	}
}
