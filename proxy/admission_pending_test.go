package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// admissionBench lets connections in that are nothing else.
type admissionBench struct {
	admission
	policy *installed
	now    time.Time

	displaced chan *conn // which are then to leave
}

func newAdmissionBench(p *Policy) *admissionBench {
	return &admissionBench{policy: &installed{Policy: p}, now: time.Now(), displaced: make(chan *conn, 100)}
}

// stillSocket is a connection that is only closed.
type stillSocket struct{ net.Conn }

func (stillSocket) SetDeadline(time.Time) error { return nil }

func (b *admissionBench) conn(addr string) *conn {
	c := &conn{policy: b.policy, ctx: context.Background(), arrival: arrival{accepted: b.now, raw: stillSocket{}}}
	c.arrival.addr = netip.AddrPortFrom(netip.MustParseAddr(addr), 1)
	c.abort = func(error) { b.displaced <- c }
	return c
}

// enter lets a connection in whose address is known.
func (b *admissionBench) enter(addr string) (*conn, bool) {
	c := b.conn(addr)
	return c, b.admission.admit(c) && b.admission.countAddress(c)
}

// TestPendingLimit: at the limit the oldest connection of the address that has most of them is
// closed.
func TestPendingLimit(t *testing.T) {
	for _, tt := range []struct{ name, enter, want string }{
		{"one address", "a1 a2 a3 a4 a5", "a1 a2"},
		{"another comes", "a1 a2 a3 b1 b2", "a1 a2"},
		{"another has come before", "b1 a1 a2 a3 a4", "a1 a2"},
		{"as many each", "a1 b1 c1 d1", "a1"},
		{"as many again", "a1 b1 b2 c1 a2", "b1 a1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newAdmissionBench(&Policy{Limits: Limits{Pending: 3}})
			names := map[*conn]string{}
			for _, name := range strings.Fields(tt.enter) {
				c, ok := b.enter(fmt.Sprintf("192.0.2.%d", name[0]))
				if !ok || c.arrival.excess != nil {
					t.Fatalf("%s was not admitted: %v", name, c.arrival.excess)
				}
				names[c] = name
				b.now = b.now.Add(time.Millisecond)
			}
			var got []string
			for len(b.displaced) > 0 {
				c := <-b.displaced
				got = append(got, names[c])
				b.release(c)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("displaced %v, want %s", got, tt.want)
			}
			if b.closing != 0 || b.descriptors != 3 || b.open != 3 || b.pending.n != 3 {
				t.Errorf("%d closing, %d descriptors, %d open, %d pending", b.closing, b.descriptors, b.open, b.pending.n)
			}
		})
	}
}

// TestPendingModel holds the order of those that give way to a plain list.
func TestPendingModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pending
		var all []*conn // from the oldest to the newest
		block := func(c *conn) netip.Prefix { return authz.Network(c.arrival.addr.Addr()) }
		now := time.Unix(0, 0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Second)
			if n := len(all); n > 0 && rapid.Bool().Draw(t, "leave") {
				i := rapid.IntRange(0, n-1).Draw(t, "who")
				p.remove(all[i])
				p.remove(all[i]) // which does nothing
				all = slices.Delete(all, i, i+1)
			} else {
				c := &conn{}
				c.arrival.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 4).Draw(t, "address"))}), 1)
				p.add(c, block(c), now)
				all = append(all, c)
			}
			count := map[netip.Prefix]int{}
			for _, c := range all {
				count[block(c)]++
			}
			var want *conn
			for _, c := range all {
				if want == nil || count[block(c)] > count[block(want)] {
					want = c
				}
			}
			if p.n != len(all) || len(p.networks) != len(count) || p.first() != want {
				t.Fatalf("%d pending of %d addresses, want %d of %d; the first is right: %v", p.n, len(p.networks), len(all), len(count), p.first() == want)
			}
			for at, n := range count {
				if p.of(at) != n {
					t.Fatalf("%d of %v, want %d", p.of(at), at, n)
				}
			}
		}
	})
}

// TestSilentConnectionsAreReplaced: at a limit on all connections a new one takes the place
// of one that has been silent, or whose address has more of them, and of no other.
func TestSilentConnectionsAreReplaced(t *testing.T) {
	for _, limits := range []Limits{{Connections: 4}, {Descriptors: 7}} { // 2 for a pipe, 1 to refuse
		b := newAdmissionBench(&Policy{Limits: limits})
		enter := func(addr string) bool {
			c := b.conn(addr)
			return b.admission.admit(c) && c.arrival.excess == nil
		}
		for range 4 {
			enter("192.0.2.1")
		}
		if enter("192.0.2.1") || len(b.displaced) > 0 {
			t.Errorf("%+v: a connection of the same address has taken a place", limits)
		}
		b.now = b.now.Add(time.Second)
		yield := func(addr string) {
			t.Helper()
			entered := make(chan bool)
			go func() { entered <- enter(addr) }()
			b.release(<-b.displaced)
			if !<-entered || b.closing != 0 || b.open-b.refused != 4 {
				t.Errorf("%+v: %s was not let in: %d closing, %d open", limits, addr, b.closing, b.open-b.refused)
			}
		}
		yield("192.0.2.1") // after a second
		b.now = b.now.Add(-time.Second)
		yield("192.0.2.2") // which has less
		yield("192.0.2.3")
		if enter("192.0.2.2") {
			t.Errorf("%+v: an address with as many has taken a place", limits)
		}
	}
}

// TestDescriptorLimitIsNeverExceeded: connections and sessions together never have more
// descriptors than the limit, and a new session gets one as long as a connection is pending.
func TestDescriptorLimitIsNeverExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.Descriptors = 20 // of which 2 are for a pipe, and 2 to refuse
		b.policy.Limits.UpstreamDescriptors = 2
		for range 100 {
			b.connect() // and not a word
		}
		synctest.Wait()
		if s := b.srv.Stats(); s.Pending != 16 || s.Connections > 18 {
			t.Errorf("%d pending of %d connections, want 16", s.Pending, s.Connections)
		}
		time.Sleep(second)
		for i := range 5 {
			b.mustLogin(with(4, fmt.Sprint(i), goodToken))
		}
		if s := b.srv.Stats(); s.Pending > 1 || s.Sessions != 5 {
			t.Errorf("%d pending and %d sessions, want 1 and 5", s.Pending, s.Sessions)
		}
		_, ack, err := b.login(with(5, "one too many", goodToken))
		if r := b.lastRefusal(); err != nil || ack.Code != packets.ServerBusy || r.Reason != Busy || !strings.Contains(r.Err.Error(), "descriptors") {
			t.Errorf("CONNACK %v, error %v, refused as %v", ack.Code, err, r.Err)
		}
		b.srv.Close()
		synctest.Wait()
		if a := &b.srv.admission; a.descriptors != 0 || a.open != 0 || a.closing != 0 || a.refused != 0 || a.pending.n != 0 {
			t.Errorf("left: %d descriptors, %d open, %d closing, %d over, %d pending", a.descriptors, a.open, a.closing, a.refused, a.pending.n)
		}
	})
}

// TestSilentConnectionIsDisplaced: the connection is closed at once, and the refusal has
// the reason.
func TestSilentConnectionIsDisplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.Pending = 2
		silent := b.connect()
		synctest.Wait()
		half := b.connect()
		half.Send([]byte{0x10, 0x20})
		b.mustLogin(with(4, "quick", goodToken))
		silent.ExpectEnd()
		if r := b.lastRefusal(); r.Reason != Displaced || r.Sent || r.Duration != 0 {
			t.Errorf("refusal %+v, want reason %q at once", r, Displaced)
		}
		for range 2 {
			b.connect()
		}
		half.ExpectEnd()
	})
}

// TestRefusedConnectionIsPending: a client that does not close after its CONNACK does not keep
// other clients out.
func TestRefusedConnectionIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.Pending = 2
		refused, ack, err := b.login(with(4, "wrong", "bad"))
		if err != nil || ack.Code != packets.RefusedNotAuthorized {
			t.Fatalf("CONNACK %v, error %v", ack.Code, err)
		}
		synctest.Wait()
		if n := b.srv.Stats().Pending; n != 1 {
			t.Errorf("%d are pending, want the refused one", n)
		}
		b.connect()
		b.connect()
		synctest.Wait()
		if _, err := refused.Write([]byte{0}); err != io.ErrClosedPipe {
			t.Errorf("the refused connection is still open: %v", err)
		}
		if n := b.srv.Stats().Connections; n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
	})
}
