package relay

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// becomesQuiet waits until n pairs of p wait in a loop.
func becomesQuiet(t testing.TB, p *Pump, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); p.Stats().Quiet != n; {
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want %d quiet", p.Stats(), n)
		}
		runtime.Gosched()
	}
}

// eachQuiet runs f with a pair that has been parked after one message each way.
func eachQuiet(t *testing.T, f func(t *testing.T, r *rig)) {
	for _, c := range [][2]string{{"tcp", "tcp"}, {"unix", "unix"}, {"tls1.2", "tcp"}, {"tls1.3", "tcp"}, {"tls1.3", "tls1.3"}} {
		t.Run(c[0]+"-"+c[1], func(t *testing.T) {
			r := newRig(t, &Pump{QuietAfter: time.Millisecond}, c[0], c[1]).framed().start()
			r.send(r.device, packet("first up"))
			r.expect(r.broker, string(packet("first up")))
			r.send(r.broker, packet("first down"))
			r.expect(r.device, string(packet("first down")))
			becomesQuiet(t, r.pump, 1)
			f(t, r)
		})
	}
}

func TestQuietPairForwards(t *testing.T) {
	eachQuiet(t, func(t *testing.T, r *rig) {
		before := r.pump.Stats().Escalations
		for _, size := range []int{1, 100, smallBuffer - 4, smallBuffer, 9000, 1} {
			message := packet(strings.Repeat("m", size))
			r.send(r.device, message)
			r.expect(r.broker, string(message))
			r.send(r.broker, message)
			r.expect(r.device, string(message))
		}
		if after := r.pump.Stats(); after.Quiet != 1 || after.Escalations != before {
			t.Errorf("%+v after small messages, want the pair to stay quiet", after)
		}
		// What has been written is counted right afterwards.
		for up, down := r.session.Bytes(); up != down-2; up, down = r.session.Bytes() {
			runtime.Gosched()
		}
	})
}

func TestQuietPairEnds(t *testing.T) {
	eachQuiet(t, func(t *testing.T, r *rig) {
		r.send(r.device, packet("last"))
		closeWrite(t, r.device)
		r.expectEnd(r.broker, string(packet("last")))
		r.send(r.broker, packet("answer"))
		r.broker.Close()
		r.expectEnd(r.device, string(packet("answer")))
		if got := r.end(); got.By != Client || got.Err != nil {
			t.Errorf("result %+v, want an orderly end by the client", got)
		}
	})
}

func TestQuietPairIsReset(t *testing.T) {
	eachQuiet(t, func(t *testing.T, r *rig) {
		if _, ok := r.broker.(*net.UnixConn); ok {
			r.broker.Close() // there is no reset
			r.device.Close()
			r.end()
			return
		}
		reset(r.broker)
		r.expectEnd(r.device, "")
		r.device.Close()
		if got := r.end(); got.By != Upstream || !errors.Is(got.Err, syscall.ECONNRESET) {
			t.Errorf("result %+v, want a reset by the upstream", got)
		}
	})
}

func TestQuietPairIsCut(t *testing.T) {
	cause := errors.New("revoked")
	eachQuiet(t, func(t *testing.T, r *rig) {
		r.session.Cut(CloseNotice{Client: packet("bye"), Upstream: packet("bye"), Err: cause})
		r.expectEnd(r.broker, string(packet("bye")))
		r.expectEnd(r.device, string(packet("bye")))
		r.device.Close()
		if got := r.end(); got.By != NoSide || got.Err != cause {
			t.Errorf("result %+v, want a cut", got)
		}
	})
}

func TestQuietPairIsCutInsidePacket(t *testing.T) {
	eachQuiet(t, func(t *testing.T, r *rig) {
		half := packet("torn")[:6]
		r.send(r.broker, half)
		r.expect(r.device, string(half))
		r.session.Cut(CloseNotice{Client: packet("bye")})
		r.expectEnd(r.device, "")
		r.end()
	})
}

func TestQuietPairRefusedByFramer(t *testing.T) {
	r := newRig(t, &Pump{QuietAfter: time.Millisecond}, "tcp", "tcp")
	r.pair.FromClient = &refusingFramer{forbidden: "forbidden"}
	r.start()
	r.send(r.device, []byte("fine"))
	r.expect(r.broker, "fine")
	becomesQuiet(t, r.pump, 1)
	r.send(r.device, []byte("forbidden"))
	r.expectEnd(r.broker, "")
	r.hangUp()
	if got := r.end(); got.By != Client || !errors.Is(got.Err, errNotAPacket) || got.Up != 4 {
		t.Errorf("result %+v, want a refusal after 4 bytes", got)
	}
}

type refusingFramer struct{ forbidden string }

func (f *refusingFramer) Advance(b []byte) (int, error) {
	if i := bytes.Index(b, []byte(f.forbidden)); i >= 0 {
		return i, errNotAPacket
	}
	return len(b), nil
}
func (*refusingFramer) AtBoundary() bool { return true }

// If the receiver of a quiet pair stalls, the pair leaves the loop, and then the write timeout
// applies.
func TestQuietPairStalls(t *testing.T) {
	for _, transport := range []string{"tcp", "tls1.3"} {
		t.Run(transport, func(t *testing.T) {
			p := &Pump{QuietAfter: time.Millisecond, WriteTimeout: 300 * time.Millisecond, Grace: 100 * time.Millisecond}
			r := newRig(t, p, transport, "tcp").start()
			becomesQuiet(t, p, 1)
			go func() {
				for chunk := make([]byte, 3000); ; {
					if _, err := r.broker.Write(chunk); err != nil {
						return
					}
				}
			}()
			if got := r.end(); got.By != Client || !errors.Is(got.Err, ErrStalled) {
				t.Errorf("result %+v, want a stall of the client", got)
			}
			r.broker.Close()
		})
	}
}

func TestQuietPairsHaveNoGoroutines(t *testing.T) {
	p := &Pump{QuietAfter: time.Millisecond}
	const pairs = 40
	before := runtime.NumGoroutine()
	for range pairs {
		newRig(t, p, "tcp", "tcp").start()
	}
	becomesQuiet(t, p, pairs)
	eventually(t, "their goroutines to end", func() bool { return runtime.NumGoroutine()-before <= 5 })
}

// TestSoak sends numbered bytes both ways, in pieces and with pauses of all sizes, so
// that pairs are parked and escalate all the time.
func TestSoak(t *testing.T) {
	p := &Pump{QuietAfter: time.Millisecond}
	var all sync.WaitGroup
	for i, transport := range []string{"tcp", "tcp", "unix", "tls1.2", "tls1.3", "tls1.3"} {
		r := newRig(t, p, transport, []string{"tcp", "tls1.3", "unix"}[i%3]).start()
		for j, c := range [][2]net.Conn{{r.device, r.broker}, {r.broker, r.device}} {
			seed := uint64(2*i + j)
			all.Go(func() { soakSend(t, c[0], seed) })
			all.Go(func() { soakReceive(t, c[1], seed) })
		}
	}
	all.Wait()
	if s := p.Stats(); s.Escalations < 10 {
		t.Errorf("%+v: pairs were parked too seldom for the test to prove anything", s)
	}
}

const soakSize = 3 << 20

// soakBytes is the stream that belongs to seed.
func soakBytes(seed uint64) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{byte(seed)}) }

func soakSend(t *testing.T, c net.Conn, seed uint64) {
	stream, dice := soakBytes(seed), rand.New(rand.NewPCG(seed, 1))
	for sent := 0; sent < soakSize; {
		b := make([]byte, min(soakSize-sent, 1<<dice.IntN(18)))
		_, _ = stream.Read(b)
		if _, err := c.Write(b); err != nil {
			t.Error("send:", err)
			return
		}
		sent += len(b)
		if dice.IntN(8) == 0 {
			<-time.After(time.Duration(dice.IntN(6)) * time.Millisecond)
		}
	}
	if err := c.(closeWriter).CloseWrite(); err != nil {
		t.Error("close:", err)
	}
}

func soakReceive(t *testing.T, c net.Conn, seed uint64) {
	stream, dice := soakBytes(seed), rand.New(rand.NewPCG(seed, 2))
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for received := 0; ; {
		n, err := c.Read(got[:1+dice.IntN(len(got))])
		_, _ = stream.Read(want[:n])
		if !bytes.Equal(got[:n], want[:n]) {
			t.Errorf("wrong bytes between %d and %d", received, received+n)
			c.Close()
			return
		}
		if received += n; err != nil {
			if err != io.EOF || received != soakSize {
				t.Errorf("%d of %d bytes and then %v", received, soakSize, err)
			}
			return
		}
		if dice.IntN(30) == 0 {
			<-time.After(time.Duration(dice.IntN(5)) * time.Millisecond)
		}
	}
}
