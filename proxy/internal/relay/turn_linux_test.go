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

// Of a filtered pair that has more to say than fits into a small buffer, the loop filters no more
// than that in one turn, or with TLS no more than completes a record, and the rest in the next
// turns. The pair needs no goroutines for that, and TLS keeps no more than a record meanwhile.
func TestLoopFiltersLittleInOneTurn(t *testing.T) {
	for name, limit := range map[string]int{
		"tcp": smallBuffer, "tls1.2": smallBuffer + maxPlaintext, "tls1.3": smallBuffer + maxPlaintext,
		"layers": smallBuffer + maxPlaintext, "tcp paced": smallBuffer,
	} {
		t.Run(name, func(t *testing.T) {
			transport, paced := strings.CutSuffix(name, " paced")
			p, l := drivenLoop(t)
			most, all, waits := 0, 0, 0
			r := newRig(t, p, transport, "tcp").framed()
			r.pair.FilterUp = filterFunc(func(b []byte) ([]byte, []byte, error) {
				most, all = max(most, len(b)), all+len(b)
				return b, nil, nil
			})
			if paced {
				r.pair.PaceUp = &bodyPacer{}
			}
			r.start()
			message := packet(strings.Repeat("m", 16_000))
			for range 12 { // crypto/tls begins with small records
				all = 0
				r.send(r.device, message)
				for (all < len(message) || len(l.later) > 0) && r.session.isQuiet() {
					if len(l.later) == 0 {
						r.awaitClient()
					}
					l.turn(0)
					if c := r.session.up.from.TLS; c != nil {
						waits = max(waits, lendable().of(c).raw.Cap())
					}
				}
				r.expect(r.broker, string(message))
			}
			if most > limit || !r.session.isQuiet() {
				t.Errorf("%d bytes were filtered in one turn, want %d at most; quiet %v", most, limit, r.session.isQuiet())
			}
			if waits > maxRecord+recordHeader {
				t.Errorf("TLS keeps %d bytes between two turns", waits)
			}
		})
	}
}

// After as much as fills a large buffer in turns in a row, goroutines take over.
func TestLoopLeavesBulkOfFilteredPairs(t *testing.T) {
	var f filtered
	for range 2 {
		for turn := range largeBuffer/smallBuffer - 1 {
			if f.another(true, smallBuffer) {
				t.Fatalf("left to goroutines after %d turns", turn+1)
			}
		}
		if f.another(false, 0) || f.turns != 0 {
			t.Fatal("an empty source does not end the row")
		}
	}
	for range largeBuffer/smallBuffer - 1 {
		f.another(true, smallBuffer)
	}
	if !f.another(true, smallBuffer) {
		t.Error("the loop goes on")
	}
	f.turns = 0
	for turn := 1; !f.another(true, maxPlaintext); turn++ {
		if turn == largeBuffer/maxPlaintext {
			t.Fatalf("the loop goes on after %d records", turn)
		}
	}
}
