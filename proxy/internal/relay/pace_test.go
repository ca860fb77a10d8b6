package relay

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// stepPacer lets a number of bytes pass, and the same number again after each step of time in which
// it holds something.
type stepPacer struct {
	size int
	step time.Duration
	left int
	next time.Time // when the next bytes may pass; zero while nothing is held
}

func (p *stepPacer) Admit(now time.Time, b []byte) (n int, wait time.Duration) {
	if !p.next.IsZero() && !now.Before(p.next) {
		p.left, p.next = p.size, time.Time{}
	}
	n = min(p.left, len(b))
	if p.left -= n; n == len(b) {
		return n, 0
	}
	if p.next.IsZero() {
		p.next = now.Add(p.step)
	}
	return n, p.next.Sub(now)
}

func (*stepPacer) Remaining() int { return 0 }
func (*stepPacer) Skip(int)       {}

// TestNothingIsKeptAfterAHold: the memory of what was held ends with the hold, since the client may
// say nothing more for days.
func TestNothingIsKeptAfterAHold(t *testing.T) {
	p := &paced{pacer: &stepPacer{size: 15_000, left: 1000}, pump: new(Pump)}
	if n := p.admit(make([]byte, 16_000), nil, 16_000); n != 1000 || len(p.held) != 15_000 {
		t.Fatalf("%d bytes may pass, %d are held", n, len(p.held))
	}
	if n := p.admit(p.held, nil, len(p.held)); n != 15_000 || p.held != nil {
		t.Errorf("%d bytes may pass, and of what was held %d remain: %v", n, len(p.held), p.held != nil)
	}
}

// TestPacedBytesArrive: all bytes arrive in order, and then the end of the client. The bytes of the
// broker are not held.
func TestPacedBytesArrive(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.pair.PaceUp = &stepPacer{size: 3000, step: time.Millisecond, left: 100}
		r.start()
		text := make([]byte, 100_000)
		for i := range text {
			text[i] = byte(rand.IntN(256))
		}
		go func() {
			_, _ = r.device.Write(text)
			_ = r.device.(closeWriter).CloseWrite()
		}()
		r.send(r.broker, []byte("at once"))
		r.expect(r.device, "at once")
		r.expectEnd(r.broker, string(text))
		r.broker.Close()
		if got := r.end(); got.By != Client || got.Err != nil || got.Up != int64(len(text)) {
			t.Errorf("result %+v", got)
		}
		if s := r.pump.Stats(); s.Held != 0 || s.Holds == 0 || r.session.Holds() != s.Holds {
			t.Errorf("%+v, and %d holds of the session", s, r.session.Holds())
		}
	})
}

// TestPacedWithAFilter: the filter sees what the pacer lets pass.
func TestPacedWithAFilter(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "tls1.3", "layers"} {
			r := newRig(t, newPump(), transport, "tcp").framed()
			var n counting
			r.pair.FilterUp, r.pair.PaceUp = &n, &stepPacer{size: 5000, step: time.Millisecond, left: 10}
			r.start()
			message := packet(strings.Repeat("m", 50_000))
			r.send(r.device, message)
			r.expect(r.broker, string(message))
			if n.n.Load() != int64(len(message)) {
				t.Errorf("the filter saw %d bytes", n.n.Load())
			}
		}
	})
}

// TestHoldTakesAsLongAsThePacerSays: afterwards the rest follows in order.
func TestHoldTakesAsLongAsThePacerSays(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.pair.PaceUp = &stepPacer{size: 4, step: 15 * time.Second, left: 4}
		r.start()
		start := time.Now()
		r.send(r.device, []byte("0123456789"))
		for i, want := range []string{"0123", "4567", "89"} {
			r.expect(r.broker, want)
			if got := time.Since(start); got != time.Duration(i)*15*time.Second {
				t.Errorf("%s came after %v", want, got)
			}
			synctest.Wait()
			if s, held := r.pump.Stats(), i < 2; (s.Held == 1) != held || s.Holds != 1 {
				t.Errorf("%+v after %s", s, want)
			}
		}
	})
}

// TestHeldClientNeedNotRead: the write timeout begins again with the end of the hold.
func TestHeldClientNeedNotRead(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.pump.WriteTimeout = 10 * time.Second
		r.pair.PaceUp = &stepPacer{size: 1, step: 25 * time.Second, left: 1}
		r.start()
		start := time.Now()
		go discard(r.broker)
		r.send(r.device, []byte("held"))
		r.send(r.broker, packet("not read"))
		// Three bytes wait for 25 seconds each.
		if got := r.endsAfter(start, 85*time.Second); got.By != Client || !errors.Is(got.Err, ErrStalled) || got.Up != 4 {
			t.Errorf("result %+v, want a stall of the client", got)
		}
	})
}

// TestEndsOfAHeldPair: the end of a pair does not wait for the hold.
func TestEndsOfAHeldPair(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(r *rig)
		want time.Duration
		by   Side
	}{
		"cut":      {func(r *rig) { r.session.Cut(CloseNotice{Client: packet("bye"), Upstream: packet("bye")}) }, 0, NoSide},
		"hard cut": {func(r *rig) { r.session.Cut(CloseNotice{}) }, 0, NoSide},
		"broker":   {func(r *rig) { _ = r.broker.(closeWriter).CloseWrite() }, time.Second, Upstream},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.pair.PaceUp = &stepPacer{size: 1, step: time.Hour}
				r.start()
				go func() { _, _ = r.device.Write(packet("held")) }()
				go func() { discard(r.device); r.device.Close() }()
				go discard(r.broker)
				synctest.Wait()
				start := time.Now()
				go test.end(r)
				if got := r.endsAfter(start, test.want); got.By != test.by || got.Up != 0 {
					t.Errorf("result %+v", got)
				}
				if s := r.pump.Stats(); s.Held != 0 {
					t.Errorf("%+v after the end", s)
				}
			})
		})
	}
}

// TestHeldPairsNeedNoGoroutines: a loop takes over a client that is held, however much it sends.
func TestHeldPairsNeedNoGoroutines(t *testing.T) {
	if !canPark {
		return
	}
	for _, transport := range []string{"tcp", "tls1.2", "tls1.3", "layer", "layers"} {
		r := newRig(t, &Pump{QuietAfter: time.Millisecond}, transport, "tcp")
		r.pair.PaceUp = &stepPacer{size: 100, step: 20 * time.Millisecond, left: 200_000}
		r.start()
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			flood(r.device, bytes.Repeat([]byte("flood"), 1000))
		}()
		go discard(r.broker)
		for limit := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
			if s := r.pump.Stats(); s.Quiet == 1 && s.Held == 1 {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("%s: %+v, want the pair to be quiet", transport, r.pump.Stats())
			}
		}
		r.session.Cut(CloseNotice{})
		<-stop
	}
}

// TestRecordsOfAHeldClient: with TLS, too, only few bytes wait in the proxy, and all of them
// arrive.
func TestRecordsOfAHeldClient(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tls1.3", "tcp")
		r.pair.PaceUp = &stepPacer{size: 2000, step: time.Millisecond}
		r.start()
		var sent bytes.Buffer
		for i := range 200 {
			sent.Write(bytes.Repeat([]byte{byte(i)}, 1+i*37%3000))
		}
		go func() {
			for rest := sent.Bytes(); len(rest) > 0; {
				n, _ := r.device.Write(rest[:min(len(rest), 1500)])
				rest = rest[n:]
			}
		}()
		got := make([]byte, sent.Len())
		if _, err := io.ReadFull(r.broker, got); err != nil || !bytes.Equal(got, sent.Bytes()) {
			t.Errorf("%d bytes came, %v", len(got), err)
		}
	})
}
