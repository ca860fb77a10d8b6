package relay

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// In each turn a loop filters about as much as fits into a small buffer, after all that
// needs no filtering; what is left waits for the next turns, one pair after the other.
func TestTurnsOfALoop(t *testing.T) {
	p, l := drivenLoop(t)
	var filtered []int // pairs, in the order in which the loop turns to them
	start := func(pair int) *rig {
		r := newRig(t, p, "tcp", "tcp").framed()
		if pair > 0 {
			r.pair.FilterUp = filterFunc(func(b []byte) ([]byte, []byte, error) {
				filtered = append(filtered, pair)
				return b, nil, nil
			})
		}
		return r.start()
	}
	var rigs []*rig
	for pair := range 6 {
		rigs = append(rigs, start(pair))
	}
	message := packet(strings.Repeat("m", 3000))
	for pair := 5; pair >= 0; pair-- { // the one that is not filtered comes last
		rigs[pair].send(rigs[pair].device, message)
	}
	for _, r := range rigs {
		r.awaitClient()
	}
	l.turn(0)
	rigs[0].expect(rigs[0].broker, string(message))
	if len(filtered) != 2 {
		t.Errorf("pairs %v were filtered in one turn, want two of them", filtered)
	}
	first := filtered[0]
	rigs[first].send(rigs[first].device, message) // which waits behind the others
	rigs[first].awaitClient()
	for turns := 2; len(l.later) > 0; turns++ {
		if l.turn(0); len(filtered) > 2*turns {
			t.Errorf("pairs %v were filtered in %d turns", filtered, turns)
		}
	}
	if len(filtered) != 6 || filtered[5] != first || len(slices.Compact(slices.Sorted(slices.Values(filtered)))) != 5 {
		t.Errorf("pairs were filtered in the order %v, want each once and then %d again", filtered, first)
	}
	if s := p.Stats(); s.Quiet != 6 {
		t.Errorf("%+v, want all to stay quiet", s)
	}
}

// awaitClient waits until there is something to read from the client of a quiet pair.
func (r *rig) awaitClient() {
	r.Helper()
	client, _ := r.sockets()
	ready := []unix.PollFd{{Fd: int32(client), Events: unix.POLLIN}}
	for n := 0; n != 1; {
		var err error
		if n, err = unix.Poll(ready, 20_000); err != nil && err != unix.EINTR || n == 0 {
			r.Fatalf("nothing came from the client: %d, %v", n, err)
		}
	}
}

// Of a filtered pair that has more to say than fits into a small buffer, the loop
// filters no more than that.
func TestLoopLeavesBulkOfFilteredPairs(t *testing.T) {
	for _, transport := range []string{"tcp", "tls1.3"} {
		p, l := drivenLoop(t)
		most, inLoop := 0, true
		r := newRig(t, p, transport, "tcp").framed()
		r.pair.FilterUp = filterFunc(func(b []byte) ([]byte, []byte, error) {
			if inLoop {
				most = max(most, len(b))
			}
			inLoop = false
			return b, nil, nil
		})
		r.start()
		message := packet(strings.Repeat("m", 50_000))
		r.send(r.device, message)
		for most == 0 && r.session.isQuiet() {
			r.awaitClient()
			l.turn(0)
		}
		r.expect(r.broker, string(message))
		if most == 0 || most > smallBuffer {
			t.Errorf("%s: %d bytes were filtered in a loop, want %d at most", transport, most, smallBuffer)
		}
	}
}
