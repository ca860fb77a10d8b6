package pool

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

const fleet = 20000

// homes returns the server of each client id of a fleet.
func homes(p *Pool) []string {
	all := make([]string, fleet)
	for i := range all {
		m := p.members[p.home(1<<len(p.members)-1, hash(fmt.Sprintf("pump-%d", i)))]
		all[i] = nameOf(m.server)
	}
	return all
}

func TestHomesAreSpreadEvenly(t *testing.T) {
	n := newNetwork(t)
	for _, servers := range [][]string{{"a", "b"}, {"broker-1", "broker-2", "broker-3"}, {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"}} {
		count := map[string]int{}
		for _, home := range homes(New(n.options(ClientID, servers...))) {
			count[home]++
		}
		fair := float64(fleet) / float64(len(servers))
		for _, s := range servers {
			// Five standard deviations of a fair draw.
			if off := math.Abs(float64(count[s]) - fair); off > 5*math.Sqrt(fair) {
				t.Errorf("%v: %s has %d of %d", servers, s, count[s], fleet)
			}
		}
	}
}

// TestHomesAreStable: adding or removing a server moves only its own share, and the order in
// the config does not matter.
func TestHomesAreStable(t *testing.T) {
	n := newNetwork(t)
	four := homes(New(n.options(ClientID, "a", "b", "c", "d")))
	three := homes(New(n.options(ClientID, "d", "c", "a")))
	moved := 0
	for i := range four {
		if four[i] != three[i] {
			moved++
			if four[i] != "b" {
				t.Fatalf("client %d moved from %s to %s when b went", i, four[i], three[i])
			}
		}
	}
	if moved < fleet/5 || moved > fleet*3/10 {
		t.Errorf("%d of %d moved, want about a quarter", moved, fleet)
	}
}

// TestHomesAreKnown: the mapping must never change, or every upgrade would separate devices
// from their sessions.
func TestHomesAreKnown(t *testing.T) {
	p := New(newNetwork(t).options(ClientID, "a", "b", "c"))
	got := homes(p)[:12]
	want := []string{"c", "b", "c", "a", "a", "b", "a", "b", "c", "b", "a", "c"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestClientReturnsToItsServer(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a", "b", "c"))
		for i := range 50 {
			id := fmt.Sprint("pump-", i)
			home := visit(p, id)
			n.set(home, refuses)
			if refuge := visit(p, id); refuge == home || refuge == "" {
				t.Errorf("%s went to %q while %s was down", id, refuge, home)
			}
			n.set(home, healthy)
			if again := visit(p, id); again != home {
				t.Errorf("%s went to %q, want its home %s", id, again, home)
			}
		}
		wantIdle(t, p)
	})
}

// TestNoClientIDTakesTurns: the broker assigns the client id, so any server will do.
func TestNoClientIDTakesTurns(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(ClientID, "a", "b", "c"))
		count := map[string]int{}
		for range 30 {
			count[visit(p, "")]++
		}
		if count["a"] != 10 || count["b"] != 10 || count["c"] != 10 {
			t.Errorf("got %v", count)
		}
	})
}

func TestRoundRobin(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(RoundRobin, "a", "b", "c"))
		n.set("b", refuses)
		for range 3 {
			visit(p, "x") // until b is down
		}
		for p.find(t, "b").State != Down {
			visit(p, "x")
		}
		count := map[string]int{}
		for range 30 {
			count[visit(p, "x")]++
		}
		if count["a"]+count["c"] != 30 || count["a"] < 10 || count["c"] < 10 {
			t.Errorf("got %v", count)
		}
	})
}

func TestLeastConnections(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		p := New(n.options(LeastConnections, "a", "b", "c"))
		var links []proxy.Link
		for i := range 30 {
			_, link, _, err := connect(p, fmt.Sprint(i))
			if err != nil {
				t.Fatal(err)
			}
			links = append(links, link)
		}
		for _, s := range p.Status() {
			if s.Sessions != 10 {
				t.Errorf("%v has %d sessions, want 10", s.Server, s.Sessions)
			}
		}
		for _, l := range links {
			if shortName(l.Server) == "b" {
				end(l)
			}
		}
		for i := range 10 {
			server, link, _, _ := connect(p, fmt.Sprint("new", i))
			if server != "b" {
				t.Errorf("session %d went to %s, want the one with the fewest", i, server)
			}
			links = append(links, link)
		}
		for i, l := range links {
			if i >= 30 || shortName(l.Server) != "b" {
				end(l)
			}
		}
		wantIdle(t, p)
	})
}

// TestFailedSessionsReleaseTheirPlace: however a session ends, its place is released.
func TestFailedSessionsReleaseTheirPlace(t *testing.T) {
	for _, m := range []mode{refuses, swallows, silent, hangsUp} {
		bubble(t, func(t *testing.T, n *network) {
			p := New(n.options(LeastConnections, "a", "b"))
			n.setAll(m, "a", "b")
			for i := range 40 {
				if server := visit(p, fmt.Sprint(i)); server != "" {
					t.Fatalf("connected to %s", server)
				}
			}
			wantIdle(t, p)
			for _, member := range p.members {
				if len(member.trials) != 0 {
					t.Errorf("%d trials are still counted", len(member.trials))
				}
			}
		})
	}
}

// TestSlowStart: a server that has recovered first gets a tenth of its share, half of it after
// half of the time, and all of it in the end.
func TestSlowStart(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, LeastConnections} {
		bubble(t, func(t *testing.T, n *network) {
			o := n.options(balance, "a", "b")
			o.SlowStart = time.Minute
			p := New(o)
			run(t, p)
			n.set("b", refuses)
			for p.find(t, "b").State != Down {
				visit(p, "x")
			}
			n.set("b", healthy)
			for p.find(t, "b").State == Down {
				<-time.After(10 * time.Millisecond)
			}
			share := func() float64 {
				count := map[string]int{}
				var links []proxy.Link
				for range 440 {
					server, link, _, err := connect(p, "x")
					if err != nil {
						t.Fatal(err)
					}
					count[server]++
					links = append(links, link)
				}
				for _, l := range links {
					end(l)
				}
				return float64(count["b"]) / float64(count["a"])
			}
			if s := p.find(t, "b").State; s != Recovering {
				t.Errorf("%s: state %s", balance, s)
			}
			for _, tt := range []struct {
				after time.Duration
				want  float64
			}{{0, 0.1}, {30 * time.Second, 0.5}, {30 * time.Second, 1}} {
				<-time.After(tt.after)
				if got := share(); math.Abs(got-tt.want) > 0.03 {
					t.Errorf("%s: share %.3f, want %.1f", balance, got, tt.want)
				}
			}
			if s := p.find(t, "b").State; s != Up {
				t.Errorf("%s: state %s", balance, s)
			}
		})
	}
}

func BenchmarkChoose(b *testing.B) {
	for _, balance := range []Balance{ClientID, LeastConnections, RoundRobin} {
		for _, n := range []int{1, 3, 16} {
			b.Run(fmt.Sprintf("%s/%d", balance, n), func(b *testing.B) {
				o := Options{Balance: balance, Dial: new(network).dial}
				for i := range n {
					o.Servers = append(o.Servers, Server{Server: mustServer(b, fmt.Sprint("broker-", i))})
				}
				p := New(o)
				b.ReportAllocs()
				for b.Loop() {
					a := attempt{pool: p, key: hash("pump-7"), keyed: true}
					if !a.next() {
						b.Fatal("nothing to choose from")
					}
					a.member.release()
				}
			})
		}
	}
}

func TestChoosingAllocatesNothing(t *testing.T) {
	p := New(newNetwork(t).options(LeastConnections, "a", "b", "c"))
	if n := testing.AllocsPerRun(100, func() {
		a := attempt{pool: p, key: hash("pump-7"), keyed: true}
		a.next()
		a.member.release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
