package relay

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// clocked is a driven loop whose pacers have a clock that the test sets.
func clocked(t *testing.T) (*Pump, *loop, *time.Time) {
	p, l := drivenLoop(t)
	now := time.Now()
	p.clock = func() time.Time { return now }
	t.Cleanup(l.closeTimer)
	return p, l, &now
}

// settle runs turns of the loop until it has nothing to do.
func (l *loop) settle(r *rig) {
	r.awaitClient()
	for l.turn(0) {
	}
}

// TestLoopHoldsPairs: a loop serves held pairs when their time has come and not before, without
// goroutines, and other pairs meanwhile.
func TestLoopHoldsPairs(t *testing.T) {
	for _, transport := range []string{"tcp", "tls1.3", "layers"} {
		p, l, now := clocked(t)
		held := newRig(t, p, transport, "tcp")
		held.pair.PaceUp = &stepPacer{size: 4, step: time.Minute, left: 4}
		held.start()
		free := newRig(t, p, "tcp", "tcp").start()
		held.send(held.device, []byte("0123456789"))
		l.settle(held)
		held.expect(held.broker, "0123")
		for i, want := range []string{"4567", "89"} {
			held.send(held.device, []byte("+")) // an event that has to wait
			free.send(free.device, []byte("free"))
			l.settle(free)
			free.expect(free.broker, "free")
			if s := p.Stats(); s != (Stats{Quiet: 2, Held: 1, Holds: 1}) {
				t.Fatalf("%s: %+v before %s", transport, s, want)
			}
			if up, _ := held.session.Bytes(); up != int64(4*(i+1)) {
				t.Fatalf("%s: %d bytes passed before %s", transport, up, want)
			}
			*now = now.Add(time.Minute)
			for l.turn(0) {
			}
			held.expect(held.broker, want)
		}
		// What came meanwhile is read at the end of the hold, and there is room for it.
		eventually(t, "all to be passed on", func() bool {
			l.turn(0)
			up, _ := held.session.Bytes()
			return up == 12
		})
		held.expect(held.broker, "++")
		if s := p.Stats(); s != (Stats{Quiet: 2, Holds: 1}) {
			t.Errorf("%s: %+v at the end", transport, s)
		}
	}
}

// TestLoopTimerEndsHolds: the end of a hold wakes up a loop that waits for events.
func TestLoopTimerEndsHolds(t *testing.T) {
	p := &Pump{QuietAfter: time.Hour}
	r := newRig(t, p, "tcp", "tcp")
	r.pair.PaceUp = &stepPacer{size: 4, step: 5 * time.Millisecond, left: 1}
	r.start()
	text := strings.Repeat("x", 100)
	r.send(r.device, []byte(text))
	r.expect(r.broker, text)
	if s := p.Stats(); s.Quiet != 1 || s.Escalations != 0 || s.Holds != 1 {
		t.Errorf("%+v, want the pair to stay quiet", s)
	}
}

// TestLittleOfAHeldClientWaits: at most 64 KiB of a held client wait in the proxy, with TLS or
// without.
func TestLittleOfAHeldClientWaits(t *testing.T) {
	for _, transport := range []string{"tcp", "tls1.2", "tls1.3", "layer", "layers"} {
		p, l, now := clocked(t)
		r := newRig(t, p, transport, "tcp")
		r.pair.PaceUp = &stepPacer{size: 100, step: time.Minute}
		r.start()
		done := make(chan struct{})
		go func() { defer close(done); flood(r.device, bytes.Repeat([]byte("x"), 30_000)) }()
		go discard(r.broker)
		most := 0
		for range 500 {
			l.settle(r)
			waits := len(r.session.up.paced.held)
			if c := r.session.up.from.TLS; c != nil {
				in := lendable().of(c)
				waits += in.raw.Len() + in.opened.Len()
			}
			most = max(most, waits)
			*now = now.Add(time.Minute)
		}
		if s := p.Stats(); s.Quiet != 1 || s.Held != 1 {
			t.Errorf("%s: %+v", transport, s)
		}
		if most == 0 || most > 64<<10 {
			t.Errorf("%s: %d bytes wait, want 64 KiB at most", transport, most)
		}
		r.session.Cut(CloseNotice{})
		<-done
	}
}

// bodyPacer admits everything, and bounds what may be spliced.
type bodyPacer struct {
	framer  lengthFramer
	bound   int
	skipped int
}

func (p *bodyPacer) Admit(_ time.Time, b []byte) (int, time.Duration) {
	n, _ := p.framer.Advance(b)
	return n, 0
}
func (p *bodyPacer) Remaining() int { return min(p.bound, p.framer.Remaining()) }
func (p *bodyPacer) Skip(n int) {
	p.framer.Skip(n)
	p.skipped += n
}

// TestPacerBoundsSplice: the kernel moves no more of a body than the pacer says.
func TestPacerBoundsSplice(t *testing.T) {
	for bound, splices := range map[int]bool{spliceMin - 1: false, 1 << 20: true} {
		r := newRig(t, &Pump{Goroutines: true}, "tcp", "tcp").framed()
		pacer := &bodyPacer{bound: bound}
		r.pair.PaceUp = pacer
		r.start()
		message := packet(strings.Repeat("m", 4<<20))
		go func() { _, _ = r.device.Write(message) }()
		r.expect(r.broker, string(message))
		r.device.Close()
		r.broker.Close()
		r.end()
		if (pacer.skipped > 0) != splices {
			t.Errorf("%d bytes were spliced with a bound of %d", pacer.skipped, bound)
		}
	}
}
