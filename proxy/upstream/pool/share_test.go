package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// weigh sets the weights of the servers of o, in their order.
func weigh(o Options, weights ...int) Options {
	for i, w := range weights {
		o.Servers[i].Weight = w
	}
	return o
}

// TestHomesFollowTheWeights: with client_id each server has its share of the client ids.
func TestHomesFollowTheWeights(t *testing.T) {
	n := newNetwork(t)
	count := map[string]int{}
	for _, home := range homes(New(weigh(n.options(ClientID, "a", "b", "c"), 1, 2, 5))) {
		count[home]++
	}
	for server, weight := range map[string]float64{"a": 1, "b": 2, "c": 5} {
		want := fleet * weight / 8
		if off := math.Abs(float64(count[server]) - want); off > 5*math.Sqrt(want) {
			t.Errorf("%s has %d of %d, want about %.0f", server, count[server], fleet, want)
		}
	}
}

// TestWeightsMoveOnlyTheirShare: a server whose weight grows only takes clients, and equal weights
// choose the same servers whatever the weights are.
func TestWeightsMoveOnlyTheirShare(t *testing.T) {
	n := newNetwork(t)
	even := homes(New(n.options(ClientID, "a", "b", "c")))
	if three := homes(New(weigh(n.options(ClientID, "a", "b", "c"), 3, 3, 3))); !slices.Equal(even, three) {
		t.Error("equal weights of 3 choose other servers than weights of 1")
	}
	p := New(n.options(ClientID, "a", "b", "c"))
	p.even = false
	if byScore := homes(p); !slices.Equal(even, byScore) {
		t.Error("the weighted score chooses other servers although all weights are 1")
	}
	heavy := homes(New(weigh(n.options(ClientID, "a", "b", "c"), 1, 2, 1)))
	moved := 0
	for i := range even {
		if even[i] != heavy[i] {
			moved++
			if heavy[i] != "b" {
				t.Fatalf("client %d moved from %s to %s when b became heavier", i, even[i], heavy[i])
			}
		}
	}
	// b has 1/3 before and 1/2 afterwards.
	if want := fleet / 6.0; math.Abs(float64(moved)-want) > 5*math.Sqrt(want) {
		t.Errorf("%d of %d moved, want about %.0f", moved, fleet, want)
	}
}

// TestTurnsAndLoadFollowTheWeights: so do the other balances.
func TestTurnsAndLoadFollowTheWeights(t *testing.T) {
	for _, b := range []Balance{RoundRobin, LeastConnections} {
		t.Run(string(b), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				p := New(weigh(n.options(b, "a", "b", "c"), 1, 2, 3))
				count, err := servers(p, 600)
				if want := map[string]int{"a": 100, "b": 200, "c": 300}; err != nil || !within(count, want, 5) {
					t.Errorf("%v, %v, want about %v", count, err, want)
				}
			})
		})
	}
}

// within reports whether each count differs from the wanted one by at most off.
func within(got, want map[string]int, off int) bool {
	for k, n := range want {
		if d := got[k] - n; d > off || d < -off {
			return false
		}
	}
	return len(got) == len(want)
}

// servers connects n sessions at the same time and returns how many each server got, or the error
// of the first that failed.
func servers(p *Pool, n int) (map[string]int, error) {
	count := map[string]int{}
	for i := range n {
		server, link, _, err := connect(p, fmt.Sprint("id", i))
		if err != nil {
			return nil, err
		}
		defer func() {
			_ = link.Conn.Close()
			link.Release()
		}()
		count[server]++
	}
	return count, nil
}

// names returns the servers that got a session.
func names(p *Pool, n int) ([]string, error) {
	count, err := servers(p, n)
	return slices.Sorted(maps.Keys(count)), err
}

// TestBackupServesOnlyWhileNoOtherDoes: with every balance, and also for a single session that the
// other servers did not answer.
func TestBackupServesOnlyWhileNoOtherDoes(t *testing.T) {
	for _, b := range []Balance{ClientID, RoundRobin, LeastConnections} {
		t.Run(string(b), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				o := n.options(b, "a", "b", "spare")
				o.Servers[2].Backup = true
				p := New(o)
				run(t, p)
				want := func(when string, all ...string) {
					t.Helper()
					if got, err := names(p, 60); err != nil || !slices.Equal(got, all) {
						t.Errorf("%s: %v, %v, want %v", when, got, err, all)
					}
				}
				want("all are up", "a", "b")
				n.set("a", refuses)
				want("one is down", "b")
				n.set("b", refuses)
				want("both are down", "spare")
				n.set("a", healthy)
				time.Sleep(time.Hour + time.Millisecond)
				synctest.Wait()
				want("one is back", "a")
			})
		})
	}
}

// TestDrainedServerGetsNoSession: not even as the last resort, and also in the pool that replaces
// this one. Its state says so, and what is asked about all servers leaves it out.
func TestDrainedServerGetsNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options(RoundRobin, "a", "b")
		p := New(o)
		a, b := o.Servers[0].Server, o.Servers[1].Server
		if !p.Drain(a, true) || p.Drain(mustServer(t, "elsewhere"), true) {
			t.Fatal("Drain does not know its servers")
		}
		o.Previous = p
		p = New(o)
		if got, err := names(p, 20); err != nil || !slices.Equal(got, []string{"b"}) {
			t.Errorf("%v, %v, want b alone", got, err)
		}
		if s := p.Status(); s[0].State != Drained || s[1].State != Up {
			t.Errorf("states %v and %v", s[0].State, s[1].State)
		}
		n.set("b", refuses)
		if _, err := names(p, 20); err == nil || n.count(n.dials, "a") != 0 {
			t.Errorf("err %v, %d connections to the drained server", err, n.count(n.dials, "a"))
		}
		if err := p.Answers(context.Background()); err == nil || n.count(n.dials, "a") != 0 {
			t.Errorf("err %v, %d connections to the drained server", err, n.count(n.dials, "a"))
		}
		p.Drain(b, true)
		_, err := servers(p, 1)
		if err == nil || strings.Count(err.Error(), "takes no new sessions until an operator enables it") != 2 {
			t.Errorf("err = %v", err)
		}
		p.Drain(a, false)
		if got, err := names(p, 20); err != nil || !slices.Equal(got, []string{"a"}) {
			t.Errorf("%v, %v, want a alone", got, err)
		}
		if err := p.Answers(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestServerThatReturnsKeepsItsState: a server that a reload removed and a later one put back has
// the sessions that it has, and is drained if it was.
func TestServerThatReturnsKeepsItsState(t *testing.T) {
	n := newNetwork(t)
	o := n.options(RoundRobin, "a", "b", "c")
	p := New(o)
	drained, busy, quiet := o.Servers[0].Server, o.Servers[1].Server, o.Servers[2]
	p.Drain(drained, true)
	m := p.member(busy)
	m.sessions.Add(1)
	all := o.Servers
	for range 3 { // it stays away for several reloads
		o.Previous, o.Servers = p, []Server{quiet}
		p = New(o)
		if len(p.Status()) != 1 || p.Drain(drained, false) {
			t.Fatal("a server that was removed is still there")
		}
	}
	o.Previous, o.Servers = p, all
	back := New(o)
	if s := back.Status(); s[0].State != Drained || s[1].Sessions != 1 {
		t.Errorf("back are %+v", s)
	}
	m.release()
	back.Drain(drained, false)
	o.Previous, o.Servers = back, []Server{quiet}
	if left := New(o).left; len(left) != 0 {
		t.Errorf("%d servers without sessions are remembered", len(left))
	}
}

// TestSessionsAreNotGivenUpForADrainedServer: their devices could not go there.
func TestSessionsAreNotGivenUpForADrainedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		o := n.options(RoundRobin, "a", "b")
		p := New(o)
		p.Drain(o.Servers[1].Server, true)
		run(t, p)
		n.set("a", refuses)
		_, _, _, err := connect(p, "x")
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + time.Millisecond)
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.lost) != 0 {
			t.Errorf("gave up the sessions on %v", n.lost)
		}
	})
}
