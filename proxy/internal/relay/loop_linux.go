package relay

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canPark = true

// loop serves quiet pairs from one goroutine: what is small goes through at once, and
// for anything else the pair gets its goroutines back.
//
// A goroutine blocked in epoll_wait would lose its processor each time, which costs
// more than goroutines for every pair do. So the loop waits in two ways. What comes
// within moments of the last event is waited for on the thread, in a system call
// that the scheduler is not told of. After that the loop parks: gate, an epoll
// descriptor that has the loop's own one in it, is in the runtime's poller. It is
// armed for one event at a time, or the poller would wake up another thread for
// each event that the loop has seen already.
type loop struct {
	pump   *Pump
	fd     int // the epoll descriptor that the sockets are in
	gate   *os.File
	armed  bool
	reader *reader
	events [128]unix.EpollEvent
	n      int  // of events
	woken  bool // goroutines were started: they may need this one's processor

	mu       sync.Mutex
	sessions []*Session // by descriptor
}

// holdTime is for how long a loop waits on its thread, in milliseconds. It covers a
// fleet that sends a hundred messages a second in all: to park and to be woken up
// again for each costs four times as much. Where the signal by which the runtime
// interrupts threads is switched off, garbage collection can be held up for as long.
//
// Beside pairs with goroutines, that is beside bulk, it is shorter: they and the loop
// then take turns more often, and quiet pairs wait less for them.
const holdTime, holdTimeBesideBulk = 20, 2

// EventLoops returns how many loops a pump has: one for up to four processors, and
// one more for each four.
func EventLoops() int { return max(1, runtime.GOMAXPROCS(0)/4) }

// loop returns the loop for the next quiet pair.
func (p *Pump) loop() (*loop, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.loops) < EventLoops() {
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
	l := &loop{pump: p, reader: &reader{pool: &p.buffers}}
	var err error
	if l.fd, err = newEpoll(); err != nil {
		return nil, err
	}
	gate, err := newEpoll()
	if err != nil {
		_ = unix.Close(l.fd)
		return nil, err
	}
	l.gate = os.NewFile(uintptr(gate), "epoll")
	if err := unix.EpollCtl(gate, unix.EPOLL_CTL_ADD, l.fd, &unix.EpollEvent{}); err != nil {
		_ = unix.Close(l.fd)
		_ = l.gate.Close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return l, nil
}

// newEpoll returns an epoll descriptor that the runtime's poller takes: one that does
// not block.
func newEpoll() (int, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("fcntl", err)
	}
	return fd, nil
}

// stop ends the loop's goroutine. No pair is left in it.
func (l *loop) stop() { _ = l.gate.Close() }

func (l *loop) run() {
	defer l.pump.live.Done()
	defer func() { _ = unix.Close(l.fd) }()
	raw, err := l.gate.SyscallConn()
	if err != nil {
		return
	}
	for raw.Read(l.opened) == nil {
		hold := l.mayHold()
		for l.collect(hold) {
			for _, event := range l.events[:l.n] {
				l.handle(descriptor(event.Fd), event.Events)
			}
		}
	}
}

// opened reports whether the gate has seen an event, and sees to it that it will.
// Arming it announces also what is ready already.
func (l *loop) opened(gate uintptr) bool {
	if !l.armed {
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
		l.armed = unix.EpollCtl(int(gate), unix.EPOLL_CTL_MOD, l.fd, &event) == nil
	}
	var seen [1]unix.EpollEvent
	if n, _ := unix.EpollWait(int(gate), seen[:], 0); n <= 0 {
		return false
	}
	l.armed = false
	return true
}

// mayHold reports whether the loop may wait on its thread. If every processor had a
// loop that does, nothing else would run.
func (l *loop) mayHold() bool { return l.pump.HoldThread && runtime.GOMAXPROCS(0) > EventLoops() }

// collect waits for events for as long as may be done on the thread, and reports
// false if none came.
func (l *loop) collect(hold bool) bool {
	wait := 0
	switch {
	case hold && l.pump.anyBusy.Load():
		wait = holdTimeBesideBulk
	case hold:
		wait = holdTime
	}
	if l.woken {
		l.woken = false
		runtime.Gosched()
	}
	for {
		n, err := epollWaitHolding(l.fd, l.events[:], wait)
		l.n = n
		if err != unix.EINTR {
			return n > 0
		}
		// It is the runtime that wants this thread to stop, for the collector most
		// likely.
		runtime.Gosched()
	}
}

// epollWaitHolding is epoll_wait for at most so many milliseconds, during which the
// goroutine keeps its processor: the scheduler takes it for running.
func epollWaitHolding(fd int, events []unix.EpollEvent, wait int) (n int, err syscall.Errno) {
	r, _, err := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(wait), 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(r), 0
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
		l.woken = true
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
