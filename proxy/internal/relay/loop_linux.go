package relay

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canPark = true

// loop serves quiet pairs with one goroutine. It passes on what is small at once, ends pairs that
// end in order, and gives the pair its goroutines back for anything else.
//
// A goroutine that blocks in epoll_wait would lose its processor each time, which costs more
// than goroutines for every pair. So the loop waits in two ways. While events are frequent, it
// waits for the next one on its thread, in a system call of which the scheduler does not know.
// Otherwise the goroutine waits in the runtime's poller for gate, an epoll descriptor that
// contains the loop's own one. The gate is armed for one event at a time; otherwise the poller
// would wake up another thread for each event that the loop has already seen.
type loop struct {
	pump       *Pump
	fd         int // the epoll descriptor that the sockets are in
	gate       *os.File
	armed      bool
	reader     *reader
	events     [128]unix.EpollEvent
	n          int          // how many of the events are new
	later      []descriptor // sockets of filtered pairs whose events wait for their turn, in order
	yield      bool         // let other goroutines run before the next wait
	pace       pace
	interrupts atomic.Int64 // how many waits the runtime has interrupted

	mu       sync.Mutex // guards the following fields
	sessions []*Session // by descriptor
	pauses   pauses
}

// holdTime is how long a loop waits on its thread. It is enough for a fleet that sends a
// hundred messages a second in all, for which waiting in the runtime's poller would cost three
// times as much. Where the signal by which the runtime interrupts threads is switched off, the
// loop can delay garbage collection for as long.
//
// While some pairs have goroutines, most likely to move bulk, the loop waits for a shorter
// time. The goroutines and the loop then take turns more often, and quiet pairs wait less.
const holdTime, holdTimeDuringBulk = 20 * time.Millisecond, 2 * time.Millisecond

// pace is the average time between two wake-ups of a loop.
type pace struct {
	last time.Time
	gap  time.Duration
}

// note records a wake-up. One long pause outweighs a few short gaps before it, so that a single
// message and its answer do not look like steady traffic.
func (p *pace) note(now time.Time) {
	p.gap += (min(now.Sub(p.last), 8*holdTime) - p.gap) / 8
	p.last = now
}

// EventLoops returns how many loops a pump has: one for every four processors, and at least
// one.
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
	l := &loop{pump: p, reader: &reader{pool: &p.buffers}, pace: pace{gap: 2 * holdTime}}
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

// newEpoll returns an epoll descriptor that does not block, as the runtime's poller requires.
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

// stop ends the goroutine of a loop that has no pairs.
func (l *loop) stop() { _ = l.gate.Close() }

func (l *loop) run() {
	defer l.pump.live.Done()
	defer func() { _ = unix.Close(l.fd) }()
	defer l.closeTimer()
	raw, err := l.gate.SyscallConn()
	if err != nil {
		return
	}
	for raw.Read(l.opened) == nil {
		mayHold, held := l.mayHold(), false
		for wait := time.Duration(0); l.turn(wait); {
			if wait = 0; mayHold && len(l.later) == 0 {
				wait = l.holdTime()
			}
			// The thread that woke up this goroutine was the one that polls for all others.
			// While this goroutine holds its thread, the runtime considers it running, and
			// may let no thread poll until this one is idle or ten milliseconds have passed.
			// Yielding makes the runtime start another thread.
			l.yield = l.yield || !held && wait > 0
			held = held || wait > 0
		}
	}
}

// turn waits for events and handles them. It reports false if there was nothing to do. Filtered
// pairs come last, and only until a small buffer has been filtered in all, so that the other
// pairs do not wait, however many pairs have something to filter.
func (l *loop) turn(wait time.Duration) bool {
	if l.collect(wait) {
		l.pace.note(time.Now())
	}
	l.release()
	if l.n <= 0 && len(l.later) == 0 {
		return false
	}
	for _, event := range l.events[:l.n] {
		l.handle(descriptor(event.Fd), event.Events)
	}
	done := 0
	for left := smallBuffer; left > 0 && done < len(l.later); done++ {
		left -= l.filter(l.later[done])
	}
	l.later = append(l.later[:0], l.later[done:]...)
	return true
}

// opened reports whether the gate has an event. If it has none, opened leaves the gate armed
// for the next one. Arming also reports what is ready already.
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

// mayHold reports whether the loop may wait on its thread. At least one processor must be left
// for other goroutines.
func (l *loop) mayHold() bool { return l.pump.HoldThread && runtime.GOMAXPROCS(0) > EventLoops() }

// holdTime returns how long the loop may wait on its thread for the next event. It is 0 if the
// event is not likely to come in time, since holding a thread keeps the runtime's monitor
// awake.
func (l *loop) holdTime() time.Duration {
	switch {
	case l.pace.gap > holdTime:
		return 0
	case l.pump.anyBusy.Load():
		return holdTimeDuringBulk
	}
	return holdTime
}

// collect waits for events on the thread, and reports false if none came. The runtime
// interrupts a wait if this goroutine has to stop, for the garbage collector or for others that
// have waited long. The wait is then repeated with half of the time.
func (l *loop) collect(wait time.Duration) bool {
	if l.yield {
		l.yield = false
		runtime.Gosched()
	}
	for ; ; wait /= 2 {
		n, err := epollWaitHolding(l.fd, l.events[:], int(wait/time.Millisecond))
		l.n = n
		if err != unix.EINTR {
			return n > 0
		}
		l.interrupts.Add(1)
		stopIfAsked(n)
	}
}

// stopIfAsked stops this goroutine if the runtime has requested that. All but the smallest Go
// functions check for such a request when they are called. [runtime.Gosched] would discard the
// request, and the garbage collector would send its signal again and again.
//
//go:noinline
func stopIfAsked(n int) byte {
	var frame [256]byte
	frame[n&0xFF] = 1
	return frame[(n+1)&0xFF]
}

// epollWaitHolding is epoll_wait for at most wait milliseconds. The goroutine keeps its
// processor meanwhile, since the scheduler considers it running.
func epollWaitHolding(fd int, events []unix.EpollEvent, wait int) (n int, err syscall.Errno) {
	r, _, err := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(wait), 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(r), 0
}

// add registers both sockets for as long as the loop serves the pair. There is an event for
// what is ready already. s.mu is held, so that no event is handled before both are registered.
func (l *loop) add(s *Session) error {
	for _, d := range []*direction{&s.up, &s.down} {
		d.waiting, d.hungUp = false, false
		if d.paced != nil {
			d.paced.scheduled = false
		}
		e := d.from
		fd := int(e.Socket.in)
		l.set(fd, s)
		// With EPOLLRDHUP, the event of the last bytes also reports an end of stream that came
		// with them. Otherwise every read would have to go on until nothing is left.
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
		if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			l.remove(s)
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}

func (l *loop) remove(s *Session) {
	for _, e := range []*Stack{s.up.from, s.down.from} {
		fd := int(e.Socket.in)
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

// handle handles an event. The event may be stale: its descriptor may belong to another pair
// by now, or to none. So it is only a hint, and the result of a read decides.
func (l *loop) handle(fd descriptor, events uint32) {
	s, d := l.lock(fd)
	if d == nil {
		return
	}
	defer s.leave()
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		d.hungUp = true
	}
	switch {
	case d.paced != nil && d.paced.scheduled:
		// What the source has ready is read when the hold is over.
	case d.filtered == nil && d.paced == nil:
		l.forward(s, d)
	default:
		l.postpone(d)
	}
}

// postpone makes d wait for its turn. The session's mu is held.
func (l *loop) postpone(d *direction) {
	if !d.waiting {
		d.waiting = true
		l.later = append(l.later, d.from.Socket.in)
	}
}

// filter handles an event of a filtered pair that has waited for its turn, and returns how many
// bytes were read. What remains to be read waits for another turn.
func (l *loop) filter(fd descriptor) int {
	s, d := l.lock(fd)
	if d == nil {
		return 0
	}
	defer s.leave()
	d.waiting = false
	l.forward(s, d)
	if d.filtered.hasMore() && !d.waiting {
		d.waiting = true
		l.later = append(l.later, fd)
	}
	return l.reader.n
}

// lock returns the direction that reads from fd, with its session's mu held, or nil.
func (l *loop) lock(fd descriptor) (*Session, *direction) {
	s := l.session(fd)
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	if s.loop == l {
		for _, d := range []*direction{&s.up, &s.down} {
			if d.from.Socket.in == fd {
				return s, d
			}
		}
	}
	s.mu.Unlock()
	return nil, nil
}

// forward moves what d has ready, and ends d if that was the last of its source. It gives the pair
// its goroutines back if they are needed for the rest. s.mu is held.
func (l *loop) forward(s *Session, d *direction) {
	if !d.parked {
		d.discardNow(l.reader.pool)
		return
	}
	done := s.forward(d, l.reader)
	for done && d.hungUp && s.loop != nil && d.paced == nil && !d.filtered.hasMore() {
		// The event has announced an end, which the next read finds, unless the event was stale.
		done = s.forward(d, l.reader)
		d.hungUp = !done || l.reader.n > 0
	}
	pacedEnd := d.paced != nil && d.hungUp && !d.holds()
	if s.loop != nil && (!done || pacedEnd) && !s.endQuietly(d) {
		s.resume()
	}
	l.yield = l.yield || s.loop == nil && !s.gone // the new goroutines may need this processor
}

// duplicate returns another descriptor for the socket. It does not block either, since that is
// a property of the open socket and not of the descriptor.
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
