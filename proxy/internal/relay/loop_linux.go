package relay

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const canPark = true

// loop serves quiet pairs from one goroutine: what is small goes through at once, and
// for anything else the pair gets its goroutines back.
//
// The epoll descriptor is itself in the runtime's poller. A goroutine blocked in
// epoll_wait would lose its processor each time, which costs more than goroutines
// for every pair do.
type loop struct {
	pump   *Pump
	epoll  *os.File
	fd     int
	reader *reader
	events [128]unix.EpollEvent
	n      int

	mu       sync.Mutex
	sessions []*Session // by descriptor
}

// loop returns the loop for the next quiet pair. There is one for up to four
// processors, and one more for each four.
func (p *Pump) loop() (*loop, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := max(1, runtime.GOMAXPROCS(0)/4); len(p.loops) < n {
		l, err := newLoop(p)
		if err != nil {
			return nil, err
		}
		p.loops = append(p.loops, l)
		p.live.Add(1)
		go l.run()
	}
	p.next++
	return p.loops[p.next%len(p.loops)], nil
}

func newLoop(p *Pump) (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Only a descriptor that does not block goes to the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{pump: p, fd: fd, epoll: os.NewFile(uintptr(fd), "epoll"), reader: &reader{pool: &p.buffers}}
	return l, nil
}

// stop ends the loop's goroutine. No pair is left in it.
func (l *loop) stop() { _ = l.epoll.Close() }

func (l *loop) run() {
	defer l.pump.live.Done()
	raw, err := l.epoll.SyscallConn()
	if err != nil {
		return
	}
	poll := func(uintptr) bool { return l.poll() }
	for raw.Read(poll) == nil {
		for _, event := range l.events[:l.n] {
			l.handle(descriptor(event.Fd), event.Events)
		}
	}
}

// poll collects events and reports false if there are none.
func (l *loop) poll() bool {
	n, err := unix.EpollWait(l.fd, l.events[:], 0)
	l.n = max(n, 0)
	return l.n > 0 || err == unix.EINTR
}

// add registers both sockets, once for all. What is ready already is announced.
// s.mu is held, so no event is handled before the pair is complete.
func (l *loop) add(s *Session) error {
	s.loop = l
	for _, e := range []*end{s.up.from, s.down.from} {
		fd := int(e.socket.in)
		l.set(fd, s)
		// EPOLLRDHUP makes an end of stream that comes with the last bytes known
		// with them: reading on until nothing is left is not needed.
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
		if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			l.remove(s)
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}

func (l *loop) remove(s *Session) {
	for _, e := range []*end{s.up.from, s.down.from} {
		fd := int(e.socket.in)
		_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, fd, nil)
		l.set(fd, nil)
	}
}

func (l *loop) set(fd int, s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd >= len(l.sessions) {
		l.sessions = append(l.sessions, make([]*Session, fd+1-len(l.sessions))...)
	}
	l.sessions[fd] = s
}

func (l *loop) session(fd descriptor) *Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(fd) < len(l.sessions) {
		return l.sessions[fd]
	}
	return nil
}

// handle acts on an event. It may be stale: the descriptor may belong to another
// pair by now, or to none. So it is a hint, and what a read returns counts.
func (l *loop) handle(fd descriptor, events uint32) {
	s := l.session(fd)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.quiet || s.loop != l {
		return
	}
	d := &s.up
	if d.from.socket.in != fd {
		d = &s.down
	}
	if d.from.socket.in != fd {
		return
	}
	done := d.forward(l.reader)
	if !done || events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.resume()
	}
}

// duplicate returns a descriptor of its own for the socket. It does not block, as
// the original does not: that is a property of the connection.
func duplicate(raw syscall.RawConn) (descriptor, error) {
	fd, err := -1, error(nil)
	rawErr := raw.Control(func(original uintptr) {
		fd, err = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0)
	})
	if rawErr != nil {
		return noDescriptor, rawErr
	}
	return descriptor(fd), os.NewSyscallError("fcntl", err)
}
