package relay

import (
	"container/heap"
	"time"

	"golang.org/x/sys/unix"
)

// pauses are the directions that a loop does not serve for some time, because of their pacers. They
// are guarded by loop.mu.
type pauses struct {
	queue pauseQueue
	timer int       // a timerfd in the loop's epoll descriptor, 0 until it is needed
	armed time.Time // when the timer fires next, zero if it does not
}

// pause is a direction of a quiet pair that a loop serves again at a time. It may be outdated: the
// pair may have got its goroutines back, or have ended.
type pause struct {
	until   time.Time
	session *Session
	fd      descriptor
}

// The end of a pause is rounded up to a multiple of pauseTick, so that a loop does not wake up for
// each of thousands of pairs.
const pauseTick = 4 * time.Millisecond

// pause makes the loop serve d again when its pacer allows that. s.mu is held.
func (l *loop) pause(s *Session, d *direction) {
	if d.paced.scheduled {
		return
	}
	d.paced.scheduled = true
	l.mu.Lock()
	defer l.mu.Unlock()
	heap.Push(&l.pauses.queue, pause{d.paced.until, s, d.from.Socket.in})
	l.arm()
}

// arm sets the timer to the end of the first pause. l.mu is held.
func (l *loop) arm() {
	h := &l.pauses
	if len(h.queue) == 0 {
		return
	}
	first := h.queue[0].until
	if !h.armed.IsZero() && !h.armed.After(first.Add(pauseTick)) {
		return
	}
	if h.timer == 0 && !l.makeTimer() {
		return
	}
	wait := time.Until(first)
	if wait > 0 {
		wait = wait.Truncate(pauseTick) + pauseTick
	}
	h.armed = time.Now().Add(wait)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(wait, 1)))}
	_ = unix.TimerfdSettime(h.timer, 0, &spec, nil)
}

// makeTimer makes the timer. If the system refuses one, the loop serves these pairs when it has
// another event.
func (l *loop) makeTimer() bool {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return false
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	if unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &event) != nil {
		_ = unix.Close(fd)
		return false
	}
	l.pauses.timer = fd
	return true
}

func (l *loop) closeTimer() {
	if l.pauses.timer != 0 {
		_ = unix.Close(l.pauses.timer)
	}
}

// release makes the directions whose pause is over wait for their turn.
func (l *loop) release() {
	for _, h := range l.over() {
		s, d := l.lock(h.fd)
		switch {
		case d == nil:
			continue
		case s == h.session && d.paced != nil:
			d.paced.scheduled = false
			l.postpone(d)
		}
		s.mu.Unlock()
	}
}

// over removes the pauses that are over from the queue, and sets the timer to the next.
func (l *loop) over() (all []pause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.pauses
	if len(h.queue) == 0 {
		return nil
	}
	now := l.pump.now()
	for len(h.queue) > 0 && !h.queue[0].until.After(now) {
		all = append(all, heap.Pop(&h.queue).(pause))
	}
	if !h.armed.After(now) {
		h.armed = time.Time{}
	}
	l.arm()
	return all
}

// pauseQueue is a [heap.Interface] by the end of the pause.
type pauseQueue []pause

func (q pauseQueue) Len() int           { return len(q) }
func (q pauseQueue) Less(i, j int) bool { return q[i].until.Before(q[j].until) }
func (q pauseQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *pauseQueue) Push(x any)        { *q = append(*q, x.(pause)) }
func (q *pauseQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	(*q)[last] = pause{}
	*q = (*q)[:last]
	return x
}
