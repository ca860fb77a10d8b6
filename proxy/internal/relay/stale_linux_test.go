package relay

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const anyEvent = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// drivenLoop is a loop without a goroutine, for all pairs of a pump: the test says
// when events are collected and which are handled.
func drivenLoop(t *testing.T) (*Pump, *loop) {
	t.Helper()
	p := &Pump{QuietAfter: time.Hour}
	l, err := newLoop(p)
	if err != nil {
		t.Fatal(err)
	}
	for range EventLoops() {
		p.loops = append(p.loops, l)
	}
	t.Cleanup(func() {
		p.Wait()
		if err := unix.Close(l.fd); err != nil {
			t.Error(err)
		}
	})
	return p, l
}

// gather waits for events without handling them.
func (l *loop) gather(t testing.TB) []unix.EpollEvent {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !l.collect(0); runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatal("no event came")
		}
	}
	return l.events[:l.n]
}

// serve waits for events and handles them.
func (l *loop) serve(t testing.TB) {
	t.Helper()
	for _, e := range l.gather(t) {
		l.handle(descriptor(e.Fd), e.Events)
	}
}

// pass sends a message each way, with the loop's help if the pair is quiet.
func (l *loop) pass(r *rig, label string) {
	r.Helper()
	move := func(from, to func() string) {
		want := from()
		if r.pump.Stats().Quiet > 0 {
			l.serve(r)
		}
		if got := to(); got != want {
			r.Fatalf("received %q, want %q", got, want)
		}
	}
	message := string(packet(label))
	move(func() string { r.send(r.device, []byte(message)); return message },
		func() string { r.expect(r.broker, message); return message })
	move(func() string { r.send(r.broker, []byte(message)); return message },
		func() string { r.expect(r.device, message); return message })
}

// sockets returns the descriptors of a pair that a loop serves.
func (r *rig) sockets() (client, upstream descriptor) {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	return r.session.client.Socket.in, r.session.upstream.Socket.in
}

// An event may name a descriptor that is closed, one that its pair no longer has, or one of a pair
// that another loop serves.
func TestEventsOfForeignDescriptors(t *testing.T) {
	for _, transport := range []string{"tcp", "tls1.3"} {
		p, l := drivenLoop(t)
		r := newRig(t, p, transport, "tcp").framed().start()
		l.pass(r, "before")
		client, upstream := r.sockets()
		foreign := max(client, upstream) + 1
		l.set(int(foreign), r.session)
		for _, fd := range []descriptor{0, foreign, foreign + 1, 1 << 20} {
			l.handle(fd, anyEvent)
		}
		l.set(int(foreign), nil)
		other, err := newLoop(p)
		if err != nil {
			t.Fatal(err)
		}
		other.set(int(client), r.session)
		other.handle(client, anyEvent)
		other.stop()
		_ = unix.Close(other.fd)
		if s := p.Stats(); s.Quiet != 1 || s.Escalations != 0 {
			t.Errorf("%s: %+v after events of others, want the pair to stay quiet", transport, s)
		}
		l.pass(r, "after")
	}
}

// The flags of an event are only hints: an event without data leaves the pair as it is, and so
// does one that reports an end that the socket does not have.
func TestSpuriousFlags(t *testing.T) {
	for _, transport := range []string{"tcp", "tls1.2", "tls1.3"} {
		for _, flags := range []uint32{0, unix.EPOLLIN, unix.EPOLLOUT | unix.EPOLLPRI, unix.EPOLLRDHUP, unix.EPOLLHUP, unix.EPOLLERR, anyEvent} {
			t.Run(fmt.Sprintf("%s-%#x", transport, flags), func(t *testing.T) {
				p, l := drivenLoop(t)
				r := newRig(t, p, transport, "tcp").framed().start()
				client, upstream := r.sockets()
				l.handle(client, flags)
				l.handle(upstream, flags)
				if got, want := p.Stats(), (Stats{Quiet: 1}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
				l.pass(r, "after")
				closeWrite(t, r.device)
				l.serve(t)
				r.expectEnd(r.broker, "")
				r.broker.Close()
				l.serve(t)
				if got := r.end(); got.By != Client || got.Err != nil {
					t.Errorf("result %+v, want an orderly end by the client", got)
				}
			})
		}
	}
}

// A descriptor of an event that has been collected may belong to the next pair when the event is
// handled. That pair loses nothing and gets nothing of the other.
func TestEventsOfReusedDescriptors(t *testing.T) {
	for _, flags := range []uint32{unix.EPOLLIN, anyEvent} {
		p, l := drivenLoop(t)
		keeper := newRig(t, p, "tcp", "tcp").framed().start() // or the loop ends with the last pair
		reused := 0
		for range 50 {
			old := newRig(t, p, "tcp", "tcp").framed().start()
			old.send(old.device, packet("for another"))
			stale := append([]unix.EpollEvent(nil), l.gather(t)...)
			old.session.Cut(CloseNotice{})
			old.end()
			r := newRig(t, p, "tcp", "tcp").framed().start()
			client, upstream := r.sockets()
			hit := false
			for _, e := range stale {
				fd := descriptor(e.Fd)
				hit = hit || fd == client || fd == upstream
				l.handle(fd, flags)
			}
			if hit {
				reused++
			}
			if !r.session.isQuiet() {
				t.Errorf("flags %#x, of this pair: %v, not quiet", flags, hit)
			}
			r.send(r.device, packet("own"))
			l.serve(t)
			r.expect(r.broker, string(packet("own")))
			if up, down := r.session.Bytes(); up > int64(len(packet("own"))) || down != 0 {
				t.Errorf("%d bytes up and %d down", up, down)
			}
			r.session.Cut(CloseNotice{})
			r.end()
		}
		if reused == 0 {
			t.Error("no descriptor was used again, so the test proves nothing")
		}
		if !keeper.session.isQuiet() {
			t.Error("the pair next to them was disturbed")
		}
	}
}

func (s *Session) isQuiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == quiet
}

// TestChurn replaces pairs, some with bytes on their way, next to others that go on:
// what is closed is opened again at once, by another pair.
func TestChurn(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		p, transports := newPump(), []string{"tcp", "tls1.3", "tls1.2"}
		live := make([]*rig, 6)
		for i := range 12 * len(live) {
			slot := i % len(live)
			if old := live[slot]; old != nil {
				old.send(old.broker, packet("on its way"))
				reset(old.device)
				old.end()
			}
			r := newRig(t, p, transports[i%3], "tcp").framed().start()
			live[slot] = r
			for n, other := range live[:min(i+1, len(live))] {
				message := packet(fmt.Sprintf("%d for %d", i, n))
				r.send(other.device, message)
				r.expect(other.broker, string(message))
				r.send(other.broker, message)
				r.expect(other.device, string(message))
			}
		}
	})
}
