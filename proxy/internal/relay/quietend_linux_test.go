package relay

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A loop ends a pair that ends in order, without goroutines: whichever side ends first, with its last
// packet or without. After its last packet, a client need not close, but with TLS or another layer
// the pair waits for that, in goroutines.
func TestLoopEndsPairs(t *testing.T) {
	for _, transport := range []string{"tcp", "unix", "tls1.2", "tls1.3", "layers", "tcp filtered", "tls1.3 filtered"} {
		transport, filtered := strings.CutSuffix(transport, " filtered")
		for _, by := range []Side{Client, Upstream} {
			for _, last := range []string{"", string(packet("bye"))} {
				t.Run(fmt.Sprintf("%s filtered=%v %v %q", transport, filtered, by, last), func(t *testing.T) {
					r := newRig(t, &Pump{}, transport, "tcp")
					if filtered {
						r.pair.FilterUp = filterFunc(func(b []byte) ([]byte, []byte, error) { return b, nil, nil })
						r.pair.FilterDown = r.pair.FilterUp
					}
					r.pair.FromClient, r.pair.FromUpstream = &endingFramer{}, &endingFramer{}
					r.start()
					first, second := r.device, r.broker
					if by == Upstream {
						first, second = second, first
					}
					sent := string(packet("message")) + last
					r.send(first, []byte(sent))
					if last == "" {
						closeWrite(t, first)
					}
					r.expectEnd(second, sent)
					answer := string(packet("answer"))
					r.send(second, []byte(answer))
					second.Close()
					r.expectEnd(first, answer)
					waits := by == Client && last != "" && transport != "tcp" && transport != "unix"
					if waits {
						first.Close()
					}
					want := Result{Up: int64(len(sent)), Down: int64(len(answer)), By: by}
					if by == Upstream {
						want.Up, want.Down = want.Down, want.Up
					}
					if got := r.end(); got != want {
						t.Errorf("result %+v, want %+v", got, want)
					}
					r.session.Cut(CloseNotice{Client: packet("too late"), Err: ErrPanic})
					r.session.Cut(CloseNotice{})
					r.pump.Wait()
					if got := r.pump.Stats(); got != (Stats{}) && !waits {
						t.Errorf("%+v, want the pair to have needed no goroutines", got)
					}
				})
			}
		}
	}
}

// A pair that waits in a loop for its second side ends when the time for that is over.
func TestLoopLimitsTheSecondSide(t *testing.T) {
	for _, by := range []Side{Client, Upstream} {
		r := newRig(t, &Pump{Linger: 10 * time.Millisecond, Grace: 10 * time.Millisecond}, "tcp", "tcp").framed().start()
		first, second := r.device, r.broker
		if by == Upstream {
			first, second = second, first
		}
		closeWrite(t, first)
		r.expectEnd(second, "")
		if got := r.end(); got.By != by || got.Err != nil {
			t.Errorf("result %+v, want an orderly end by %v", got, by)
		}
	}
}

// A pair one side of which has ended in a loop can be cut, and what the other side sends or does
// not take is still handled as in every other pair.
func TestLoopGoesOnWithTheSecondSide(t *testing.T) {
	t.Run("cut", func(t *testing.T) {
		r := newRig(t, &Pump{Linger: time.Hour}, "tcp", "tcp").framed().start()
		closeWrite(t, r.device)
		r.expectEnd(r.broker, "")
		r.session.Cut(CloseNotice{Client: packet("bye"), Err: ErrStalled})
		r.expectEnd(r.device, string(packet("bye")))
		r.device.Close()
		if got := r.end(); got.By != Client || got.Err != nil {
			t.Errorf("result %+v, want that of the end before", got)
		}
	})
	t.Run("much", func(t *testing.T) {
		r := newRig(t, &Pump{}, "tls1.3", "tcp").framed().start()
		closeWrite(t, r.device)
		r.expectEnd(r.broker, "")
		much := packet(strings.Repeat("m", 8<<20))
		go func() {
			_, _ = r.broker.Write(much)
			r.broker.Close()
		}()
		r.expectEnd(r.device, string(much))
		if got := r.end(); got.By != Client || got.Err != nil || got.Down != int64(len(much)) {
			t.Errorf("result %+v, want all to have arrived", got)
		}
	})
	t.Run("reset", func(t *testing.T) {
		r := newRig(t, &Pump{Linger: time.Hour}, "tcp", "tcp").framed().start()
		closeWrite(t, r.device)
		r.expectEnd(r.broker, "")
		reset(r.broker)
		if got := r.end(); got.By != Client || got.Err != nil {
			t.Errorf("result %+v, want that of the end before", got)
		}
	})
}

// A client that sends something after its last packet gets the upstream's answer nevertheless: its
// connection is not reset.
func TestLoopDoesNotResetClient(t *testing.T) {
	for _, size := range []int{1, smallBuffer, 100_000} {
		p, l := drivenLoop(t)
		r := newRig(t, p, "tcp", "tcp")
		r.pair.FromClient, r.pair.FromUpstream = &endingFramer{}, &endingFramer{}
		r.start()
		r.send(r.device, packet("bye"))
		l.serve(t)
		r.expectEnd(r.broker, string(packet("bye")))
		r.send(r.broker, packet("answer"))
		closeWrite(t, r.broker)
		_, upstream := r.sockets()
		l.gather(t)
		eventually(t, "the broker's end to arrive", func() bool { return hasDataAndEnd(upstream) })
		r.send(r.device, make([]byte, size)) // the loop has no event for this yet
		r.awaitClient()
		l.handle(upstream, anyEvent)
		r.expectEnd(r.device, string(packet("answer")))
		r.device.Close()
		if got := r.end(); got.By != Client || got.Err != nil {
			t.Errorf("result %+v, want an orderly end by the client", got)
		}
	}
}

// A client over TLS ends its side by an alert, which may come after the upstream has closed. It gets
// all that the upstream has sent nevertheless.
func TestLateAlertDoesNotResetClient(t *testing.T) {
	r := newRig(t, &Pump{}, "tls1.3", "tcp")
	r.pair.FromClient, r.pair.FromUpstream = &endingFramer{}, &endingFramer{}
	r.start()
	r.send(r.device, packet("bye"))
	r.expectEnd(r.broker, string(packet("bye")))
	var answers string
	for range 20 { // more than the device's kernel takes at once
		answer := packet(strings.Repeat("a", 8000))
		answers += string(answer)
		r.send(r.broker, answer)
	}
	r.broker.Close()
	for r.session.down.moved.Load() < int64(len(answers)) {
		runtime.Gosched()
	}
	closeWrite(t, r.device)
	r.expectEnd(r.device, answers)
	r.device.Close()
	if got := r.end(); got.By != Client || got.Err != nil || got.Down != int64(len(answers)) {
		t.Errorf("result %+v, want an orderly end by the client", got)
	}
}

// What a filter answers right before the end of the client still arrives, also if the client takes
// it slowly, and what the client has sent in many turns does, too.
func TestLoopEndsFilteredPairs(t *testing.T) {
	for _, transport := range []string{"tcp", "tls1.3"} {
		r := newRig(t, &Pump{}, transport, "tcp").framed()
		answer := packet(strings.Repeat("a", 30_000))
		r.pair.FilterUp = filterFunc(func(b []byte) ([]byte, []byte, error) { return b, answer, nil })
		r.start()
		sent := packet(strings.Repeat("m", 3*smallBuffer))
		r.send(r.device, sent)
		closeWrite(t, r.device)
		r.expectEnd(r.broker, string(sent))
		r.broker.Close()
		got, err := io.ReadAll(r.device)
		if n := len(answer); err != nil || len(got) == 0 || len(got)%n != 0 || string(got[:n]) != string(answer) {
			t.Errorf("%s: received %d bytes and %v, want whole answers of %d", transport, len(got), err, n)
		}
		if got := r.end(); got.By != Client || got.Err != nil {
			t.Errorf("%s: result %+v, want an orderly end by the client", transport, got)
		}
	}
}
