package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// passAll is a filter that changes nothing.
func passAll(b []byte) (pass, back []byte, err error) { return b, nil, nil }

// TestSend: packets of any goroutine reach the client between those of the upstream, whether
// the pair is quiet or not, and a pair that is quiet stays so.
func TestSend(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "tls1.3"} {
			r := newRig(t, newPump(), transport, "tcp").framed()
			r.pair.FilterUp = filterFunc(passAll)
			r.start()
			quiet := r.pump.Stats().Quiet
			r.session.Send(packet("one"))
			r.expect(r.device, string(packet("one")))
			if s := r.pump.Stats(); s.Quiet != quiet || s.Escalations > 0 {
				t.Errorf("%s: %+v, and %d quiet before", transport, s, quiet)
			}
			// In the middle of a packet it waits.
			long := string(packet("a packet in two parts"))
			r.send(r.broker, []byte(long[:10]))
			r.expect(r.device, long[:10])
			r.session.Send(packet("two"))
			r.send(r.broker, []byte(long[10:]))
			r.expect(r.device, long[10:]+string(packet("two")))
		}
	})
}

// TestSendAtOnce: while the pair moves bytes, and gets its goroutines and loses them again,
// every packet arrives whole and in order.
func TestSendAtOnce(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		p := newPump()
		p.QuietAfter = time.Millisecond
		r := newRig(t, p, "tcp", "tcp").framed()
		r.pair.FilterUp = filterFunc(passAll)
		r.start()
		const rounds = 300
		var senders sync.WaitGroup
		senders.Go(func() {
			for i := range rounds {
				r.session.Send(packet(fmt.Sprint("send ", i)))
			}
		})
		senders.Go(func() {
			for i := range rounds {
				size := 10
				if i%50 == 0 {
					size = 100_000 // more than a loop moves
				}
				if _, err := r.broker.Write(packet(fmt.Sprint("relay ", i, strings.Repeat(".", size)))); err != nil {
					t.Error(err)
					return
				}
			}
		})
		next := map[string]int{"send": 0, "relay": 0}
		for range 2 * rounds {
			payload := readWhole(t, r.device)
			kind, number, _ := strings.Cut(strings.TrimRight(payload, "."), " ")
			if number != fmt.Sprint(next[kind]) {
				t.Fatalf("%.20q, want number %d", payload, next[kind])
			}
			next[kind]++
		}
		senders.Wait()
	})
}

// readWhole returns the payload of the next packet.
func readWhole(t *testing.T, c net.Conn) string {
	t.Helper()
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c, payload); err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

// TestSendToAClientThatReadsNothing ends the pair after the write timeout, and does nothing
// afterwards.
func TestSendToAClientThatReadsNothing(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		p := newPump()
		p.WriteTimeout = 50 * time.Millisecond
		r := newRig(t, p, "tcp", "tcp").framed()
		r.pair.FilterUp = filterFunc(passAll)
		r.start()
		large := packet(strings.Repeat("x", 60_000))
		var got Result
		var senders sync.WaitGroup
		done := make(chan struct{})
		senders.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					r.session.Send(large)
				}
			}
		})
		got = r.end()
		close(done)
		senders.Wait()
		if got.By != Client || !errors.Is(got.Err, ErrStalled) && !errors.Is(got.Err, errAnswers) {
			t.Errorf("result %+v", got)
		}
		r.session.Send(large)
	})
}
