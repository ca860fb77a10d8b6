package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// filterFunc is a Filter.
type filterFunc func(b []byte) (pass, back []byte, err error)

func (f filterFunc) Filter(b []byte) (pass, back []byte, err error) { return f(b) }

// counting passes everything on and counts it.
type counting struct{ n atomic.Int64 }

func (c *counting) Filter(b []byte) (pass, back []byte, err error) {
	c.n.Add(int64(len(b)))
	return b, nil, nil
}

func TestCountingFilters(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		var up, down counting
		r.pair.FilterUp, r.pair.FilterDown = &up, &down
		r.start()
		for _, size := range []int{1, 100, smallBuffer, 3 * largeBuffer} {
			text := strings.Repeat("x", size)
			go r.device.Write([]byte(text))
			r.expect(r.broker, text)
			go r.broker.Write([]byte(text))
			r.expect(r.device, text)
		}
		const want = 1 + 100 + smallBuffer + 3*largeBuffer
		if up.n.Load() != want || down.n.Load() != want {
			t.Errorf("filters saw %d bytes up and %d down, want %d", up.n.Load(), down.n.Load(), want)
		}
	})
}

// A filter may put other bytes in the place of those that came; counters and framers
// go by what is passed on.
func TestReplacingFilter(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tls1.3", "tcp").framed()
		r.pair.FilterUp = filterFunc(func(b []byte) ([]byte, []byte, error) {
			if len(b) == 0 {
				t.Error("called for nothing")
			}
			if bytes.Contains(b, []byte("drop")) {
				return nil, nil, nil
			}
			return packet("replaced by something longer"), nil, nil
		})
		r.start()
		want := string(packet("replaced by something longer"))
		r.send(r.device, packet("first"))
		r.expect(r.broker, want)
		r.send(r.device, packet("drop"))
		closeWrite(t, r.device)
		r.expectEnd(r.broker, "")
		r.broker.Close()
		if got := r.end(); got.Up != int64(len(want)) {
			t.Errorf("%d bytes up, want %d", got.Up, len(want))
		}
	})
}

// answersAll drops every packet that came from the device and answers it.
func answersAll(b []byte) (pass, back []byte, err error) { return nil, packet("answer"), nil }

func TestAnswersOfFilter(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "tls1.3"} {
			r := newRig(t, newPump(), transport, "tcp").framed()
			r.pair.FilterUp = filterFunc(answersAll)
			r.start()
			for i := range 20 {
				r.send(r.device, packet("denied"))
				r.expect(r.device, string(packet("answer")))
				message := packet(fmt.Sprint("message ", i))
				r.send(r.broker, message)
				r.expect(r.device, string(message))
			}
		}
	})
}

// An answer waits for the end of the packet that is being sent to the device.
func TestAnswerWaitsForBoundary(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tcp", "tcp").framed()
		r.pair.FilterUp = filterFunc(answersAll)
		r.start()
		long := string(packet("a packet in two parts"))
		next := string(packet("and the next"))
		r.send(r.broker, []byte(long[:10]))
		r.expect(r.device, long[:10])
		r.send(r.device, packet("denied"))
		r.session.waitAnswers(1)
		r.send(r.broker, []byte(long[10:]+next))
		r.expect(r.device, long[10:]+string(packet("answer"))+next)
	})
}

// waitAnswers waits until something waits for a boundary on its way to the client.
func (s *Session) waitAnswers(n int) {
	for f := s.down.filtered; ; {
		f.out.Lock()
		waiting := f.waiting()
		f.out.Unlock()
		if waiting >= n {
			return
		}
		runtime.Gosched()
	}
}

// What a filter has passed on before a fault reaches the upstream, and the upstream's
// answer the client before the client gets the reason.
func TestFilterEndsPair(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "tls1.3"} {
			refusal := errors.New("refused")
			p := newPump()
			p.Grace = time.Minute
			r := newRig(t, p, transport, "tcp").framed()
			r.pair.FilterUp = filterFunc(func([]byte) ([]byte, []byte, error) { return packet("before"), packet("why"), refusal })
			r.start()
			r.send(r.device, packet("x"))
			r.expectEnd(r.broker, string(packet("before")))
			r.send(r.broker, packet("answer"))
			r.broker.Close()
			r.expectEnd(r.device, string(packet("answer"))+string(packet("why")))
			r.device.Close()
			if got := r.end(); got.By != Client || !errors.Is(got.Err, refusal) || got.Up != int64(len(packet("before"))) {
				t.Errorf("result %+v, want a refusal", got)
			}
		}
	})
}

// A client that sends packets that a filter answers, and reads no answer, is stopped, and its pair
// ends after the write timeout. No packet is sent inside another.
func TestClientThatReadsNoAnswers(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "tls1.3"} {
			p := newPump()
			p.WriteTimeout, p.Grace = 300*time.Millisecond, 100*time.Millisecond
			r := newRig(t, p, transport, "tcp").framed()
			answers := bytes.Repeat(packet("answer"), 100)
			r.pair.FilterUp = filterFunc(func([]byte) ([]byte, []byte, error) { return nil, answers, nil })
			r.start()
			go flood(r.device, bytes.Repeat(packet("denied"), 300))
			go flood(r.broker, packet("from the broker"))
			// If the goroutine that sends the leftover of a loop starts late, answers accumulate up
			// to their bound.
			if got := r.end(); got.By != Client || !errors.Is(got.Err, ErrStalled) && !errors.Is(got.Err, errAnswers) {
				t.Errorf("%s: result %+v, want a stall of the client", transport, got)
			}
			_ = r.device.SetReadDeadline(time.Now().Add(20 * time.Second))
			got, _ := io.ReadAll(r.device)
			for len(got) > 4 {
				size := min(4+int(binary.BigEndian.Uint32(got)), len(got))
				if one := string(got[4:size]); one != "answer" && one != "from the broker" && size < len(got) {
					t.Fatalf("%s: the client got %q between two packets", transport, one)
				}
				got = got[size:]
			}
			r.device.Close()
		}
	})
}

// flood writes b until that fails.
func flood(c net.Conn, b []byte) {
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func TestAnswersNeedBoundariesAndBounds(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tcp", "tcp")
		r.pair.FilterUp = filterFunc(answersAll)
		r.start()
		r.send(r.device, packet("x"))
		r.expectEnd(r.broker, "")
		r.hangUp()
		if got := r.end(); !errors.Is(got.Err, errNoBoundaries) {
			t.Errorf("result %+v, want %v", got, errNoBoundaries)
		}

		r = newRig(t, newPump(), "tcp", "tcp").framed()
		r.pair.FilterUp = filterFunc(func(b []byte) ([]byte, []byte, error) { return nil, make([]byte, maxAnswers+1), nil })
		r.start()
		r.send(r.device, packet("x"))
		r.expectEnd(r.broker, "")
		r.hangUp()
		if got := r.end(); !errors.Is(got.Err, errAnswers) {
			t.Errorf("result %+v, want %v", got, errAnswers)
		}
	})
}

func TestFilteredPairStaysQuiet(t *testing.T) {
	for name, p := range pumps() {
		if p := p(); p.Goroutines || !canPark {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := newRig(t, p(), "tcp", "tcp").framed()
			var n counting
			r.pair.FilterUp, r.pair.FilterDown = filterFunc(answersAll), &n
			r.start()
			for range 10 {
				r.send(r.device, packet("denied"))
				r.expect(r.device, string(packet("answer")))
			}
			if s := r.pump.Stats(); s.Escalations > 0 || s.Quiet != 1 {
				t.Errorf("%+v, want the pair to stay quiet", s)
			}
		})
	}
}
