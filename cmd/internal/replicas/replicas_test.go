package replicas

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testSecret = []byte("a secret of thirty-two bytes or more")

// node is a replica that records what the others make it do.
type node struct {
	*Replicas
	way  *outlet
	deaf bool // nothing arrives

	mu         sync.Mutex
	applied    []Withdrawal
	adopted    []Withdrawal
	kicked     []string
	purges     int
	recoveries int
	denials    []Withdrawal
}

func newNode(t *testing.T, name string, secret []byte) *node {
	t.Helper()
	n := &node{}
	lock := func(do func()) {
		n.mu.Lock()
		defer n.mu.Unlock()
		do()
	}
	var err error
	n.Replicas, err = New(Options{
		Name: name, Secret: secret, Bus: Bus{Topic: "bus"}, Log: zap.NewNop(),
		Apply:   func(all []Withdrawal) { lock(func() { n.applied = append(n.applied, all...) }) },
		Adopt:   func(all []Withdrawal) { lock(func() { n.adopted = append(n.adopted, all...) }) },
		Kick:    func(all []string) { lock(func() { n.kicked = append(n.kicked, all...) }) },
		Purge:   func() { lock(func() { n.purges++ }) },
		Recover: func() { lock(func() { n.recoveries++ }) },
		Denials: func() (all []Withdrawal) {
			lock(func() { all = slices.Clone(n.denials) })
			return all
		},
		Panicked: func(p *task.Panic) { t.Errorf("panic: %s\n%s", p.Kind, p.Stack) },
	})
	if err != nil {
		t.Fatal(err)
	}
	n.way = &outlet{queue: make(chan []byte, queueLength)}
	n.outlets = append(n.outlets, n.way)
	n.transport = func(ctx context.Context) { <-ctx.Done() } // see run
	return n
}

// see returns a copy of what the node has done.
func (n *node) see() (applied []Withdrawal, kicked []string, purges, recoveries int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.applied), slices.Clone(n.kicked), n.purges, n.recoveries
}

// run connects nodes by a bus that loses nothing except for deaf nodes, until the test ends. It
// returns when they have found each other.
func run(t *testing.T, nodes ...*node) {
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	for _, n := range nodes {
		running.Go(func() { n.Run(ctx) })
		running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					n.linkDown(n.way, nil)
					return
				case payload := <-n.way.queue:
					for _, other := range nodes {
						if !other.isDeaf() {
							other.receive(payload)
						}
					}
				}
			}
		})
		n.linkUp(n.way)
	}
	time.Sleep(10 * time.Second) // of the synctest bubble
	synctest.Wait()
}

func (n *node) isDeaf() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaf
}

func (n *node) setDeaf(deaf bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = deaf
}

func subject(name string) Withdrawal { return Withdrawal{Revocation: authz.Revocation{Subject: name}} }

func three(t *testing.T) (a, b, c *node) {
	a, b, c = newNode(t, "a", testSecret), newNode(t, "b", testSecret), newNode(t, "c", testSecret)
	run(t, a, b, c)
	return a, b, c
}

func TestEventsReachEachOtherReplicaOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		until := time.Now().Add(time.Hour).Truncate(time.Second)
		hash := authz.NewToken("a token").Hash()
		a.Withdraw(subject("pump"), Withdrawal{Revocation: authz.Revocation{TokenHash: hash}, Until: until, Follow: true}, Withdrawal{Revocation: authz.Revocation{TokenID: "id"}})
		a.Kick("valve")
		a.Purge()
		synctest.Wait()
		for _, n := range []*node{b, c} {
			applied, kicked, purges, recoveries := n.see()
			if len(applied) != 3 || applied[0].Subject != "pump" || applied[1].TokenHash != hash || !applied[1].Until.Equal(until) || !applied[1].Follow || applied[2].TokenID != "id" {
				t.Errorf("%s applied %v", n.Name(), applied)
			}
			if !slices.Equal(kicked, []string{"valve"}) || purges != 1 {
				t.Errorf("%s kicked %v and purged %d times", n.Name(), kicked, purges)
			}
			if recoveries != 1 { // at the start
				t.Errorf("%s recovered %d times, want once", n.Name(), recoveries)
			}
		}
		if applied, kicked, purges, _ := a.see(); applied != nil || kicked != nil || purges != 0 {
			t.Errorf("the sender itself did %v, %v, %d", applied, kicked, purges)
		}
		if heard := a.Peers(); len(heard) != 2 || heard[0].Name != "b" || heard[1].Name != "c" || time.Since(heard[0].Heard) > 2*beat {
			t.Errorf("a hears %v", heard)
		}
	})
}

func TestMissedMessagesAreCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		c.setDeaf(true)
		a.Withdraw(subject("pump"))
		b.Withdraw(subject("valve"))
		a.mu.Lock()
		a.denials = []Withdrawal{{Revocation: authz.Revocation{Subject: "denied"}, Until: time.Now().Add(time.Hour)}}
		a.mu.Unlock()
		time.Sleep(time.Minute)
		c.setDeaf(false)
		begin := time.Now()
		time.Sleep(3 * beat)
		synctest.Wait()
		applied, _, _, recoveries := c.see()
		if len(applied) != 2 || !applied[0].Missed || !applied[1].Missed || applied[0].At.After(begin) {
			t.Errorf("c applied %v, want what it missed, once", applied)
		}
		if recoveries < 2 || c.Stats().CatchUps == 0 {
			t.Errorf("c recovered %d times, and counts %d", recoveries, c.Stats().CatchUps)
		}
		if len(c.adopted) == 0 || c.adopted[0].Subject != "denied" {
			t.Errorf("c adopted %v", c.adopted)
		}
	})
}

func TestReconnectedReplicaCatchesUpOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, c := three(t)
		c.linkDown(c.way, nil)
		c.setDeaf(true)
		a.Withdraw(subject("pump"))
		time.Sleep(time.Minute)
		c.setDeaf(false)
		c.linkUp(c.way)
		time.Sleep(time.Minute)
		synctest.Wait()
		applied, _, _, recoveries := c.see()
		if len(applied) != 1 || applied[0].Subject != "pump" || recoveries != 2 {
			t.Errorf("c applied %v and recovered %d times, want pump and 2 with the start", applied, recoveries)
		}
	})
}

func TestNewReplicaLearnsDenials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newNode(t, "a", testSecret), newNode(t, "b", testSecret)
		for i := range 1000 {
			a.denials = append(a.denials, Withdrawal{Revocation: authz.Revocation{Subject: fmt.Sprint("pump-", i)}, Until: time.Now().Add(time.Hour)})
		}
		run(t, a, b)
		if len(b.adopted) != 1000 {
			t.Errorf("adopted %d denials, want 1000", len(b.adopted))
		}
	})
}

func TestLiftedDenialDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		pump := authz.Revocation{Subject: "pump"}
		c.denials = []Withdrawal{{Revocation: pump, Until: time.Now().Add(time.Hour)}}
		c.setDeaf(true)
		a.Withdraw(Withdrawal{Revocation: pump, Until: time.Now().Add(time.Second)})
		time.Sleep(time.Minute)
		b.mu.Lock()
		b.adopted = nil
		b.mu.Unlock()
		b.linkDown(b.way, nil) // b asks c, which knows no better
		b.linkUp(b.way)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(b.adopted) != 0 {
			t.Errorf("b adopted %v", b.adopted)
		}
	})
}

// TestOverflowIsNoticed: what does not fit into the queue is dropped at once, and the others
// notice and get it.
func TestOverflowIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		many := make([]Withdrawal, maxPending+1000)
		for i := range many {
			many[i] = subject(fmt.Sprint("pump-", i))
		}
		a.Withdraw(many...)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if applied, _, _, _ := b.see(); len(applied) < len(many) || a.Stats().Dropped != 1000 || b.Stats().CatchUps == 0 {
			t.Errorf("b applied %d of %d, a dropped %d, b caught up %d times", len(applied), len(many), a.Stats().Dropped, b.Stats().CatchUps)
		}
	})
}

// TestStrangersCanDoNothing: messages without the secret, of another topic, altered, repeated, or
// from another time have no effect.
func TestStrangersCanDoNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newNode(t, "a", testSecret), newNode(t, "b", testSecret)
		run(t, a, b)
		seal := func(secret []byte, topic string, m message) []byte {
			c, err := newCodec(secret, topic)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := c.seal(m)
			if err != nil {
				t.Fatal(err)
			}
			return payload
		}
		now := time.Now()
		m := message{Name: "x", Instance: "0123456789abcdef", Number: 1, Sent: now.UnixMilli(), Kick: []string{"pump"}}
		late, early := m, m
		late.Sent, early.Sent = now.Add(-MaxSkew-time.Second).UnixMilli(), now.Add(MaxSkew+time.Second).UnixMilli()
		altered := seal(testSecret, "bus", m)
		altered[len(altered)/2] ^= 1
		for name, payload := range map[string][]byte{
			"empty": nil, "text": []byte(`{"name":"x"}`), "large": make([]byte, maxMessage+1), "altered": altered,
			"other secret": seal([]byte("another secret of more than 32 bytes"), "bus", m), "other topic": seal(testSecret, "other", m),
			"late": seal(testSecret, "bus", late), "early": seal(testSecret, "bus", early),
		} {
			b.receive(payload)
			if _, kicked, purges, _ := b.see(); kicked != nil || purges != 0 {
				t.Errorf("%s: kicked %v", name, kicked)
			}
		}
		good := seal(testSecret, "bus", m)
		for range 3 {
			b.receive(good)
		}
		if _, kicked, _, _ := b.see(); len(kicked) != 1 {
			t.Errorf("a message that came three times had effect %d times", len(kicked))
		}
		if s := b.Stats(); s.Unreadable != 6 || s.Late != 2 || s.Repeated != 2 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestMessageTellsNothing(t *testing.T) {
	c, err := newCodec(testSecret, "bus")
	if err != nil {
		t.Fatal(err)
	}
	payload, err := c.seal(message{Name: "proxy-1", Withdraw: []entry{{Subject: "pump-7"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"proxy-1", "pump-7", "withdraw"} {
		if slices.ContainsFunc(windows(payload, len(text)), func(w string) bool { return w == text }) {
			t.Errorf("the message shows %q", text)
		}
	}
}

// windows returns all parts of b with that length.
func windows(b []byte, length int) (all []string) {
	for i := 0; i+length <= len(b); i++ {
		all = append(all, string(b[i:i+length]))
	}
	return all
}

func TestAloneReplicaDoesNothing(t *testing.T) {
	var r *Replicas
	r.Withdraw(subject("pump"))
	r.Kick("pump")
	r.Purge()
	r.Connect(nil)
	if r.Peers() != nil || r.Servers() != nil {
		t.Error("a replica that is alone has company")
	}
}

func TestNumbersCountOnce(t *testing.T) {
	w := startWindow(10)
	for _, tt := range []struct {
		number     uint64
		fresh, gap bool
	}{
		{10, false, false}, {9, false, false}, {11, true, false}, {13, true, true}, {12, true, false}, {12, false, false},
		{14, true, false}, {200, true, true}, {13, false, false}, {140, true, false}, {136, false, false}, {200, false, false}, {201, true, false},
	} {
		if fresh, gap := w.take(tt.number); fresh != tt.fresh || gap != tt.gap {
			t.Errorf("%d: new %t, gap %t, want %t, %t", tt.number, fresh, gap, tt.fresh, tt.gap)
		}
	}
}

func TestPeersAreBounded(t *testing.T) {
	p, now := make(peers), time.Unix(1e9, 0)
	for i := range maxPeers + 10 {
		fresh, _, _ := p.take(message{Name: "x", Instance: fmt.Sprint(i), Number: 1}, now)
		if fresh != (i < maxPeers) {
			t.Errorf("replica %d is known: %t", i, fresh)
		}
	}
	if fresh, _, _ := p.take(message{Name: "x", Instance: "new", Number: 1}, now.Add(peerKept+time.Second)); !fresh || len(p) != 1 {
		t.Errorf("%d replicas are known after a long silence", len(p))
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	now := time.Unix(1e9, 0)
	for i := range maxHistory + 10 {
		w := subject(fmt.Sprint(i))
		w.At = now
		h.add(w, now)
	}
	if len(h.list) != maxHistory || len(h.known) != maxHistory {
		t.Errorf("%d and %d withdrawals are kept", len(h.list), len(h.known))
	}
	later := subject("later")
	later.At = now.Add(historyKept + time.Second)
	if !h.add(later, later.At) || h.add(later, later.At) || len(h.list) != 1 || len(h.known) != 1 {
		t.Errorf("%d withdrawals are kept after a day", len(h.list))
	}
}

// FuzzReceive: no payload, and no text that somebody with the secret sends, breaks a replica, and
// what is accepted has bounds.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"name":"a","instance":"0123456789abcdef","number":1,"sent":1,"withdraw":[{"subject":"pump","at":5,"until":9,"follow":true}],"kick":["x"],"purge":true,"ask":0,"to":"0123456789abcdef","denials":[{"token_id":"t"}]}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"name":"a","instance":"0123456789abcdef","number":18446744073709551615,"sent":-1}`))
	c, err := newCodec(testSecret, "bus")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := c.open(text); err == nil {
			t.Error("a payload without the secret was accepted")
		}
		m, err := parse(text)
		if err != nil {
			return
		}
		if m.Name == "" || len(m.Name) > maxText || len(withdrawals(m.Withdraw)) != len(m.Withdraw) || len(withdrawals(m.Denials)) != len(m.Denials) {
			t.Errorf("accepted %+v", m)
		}
		if payload, err := c.seal(m); err == nil {
			if again, err := c.open(payload); err != nil || again.Number != m.Number {
				t.Errorf("sealed and opened: %+v, %v", again, err)
			}
		}
		n := newNode(t, "b", testSecret)
		m.Sent = time.Now().UnixMilli()
		if payload, err := n.codec.seal(m); err == nil {
			n.receive(payload)
		}
	})
}
