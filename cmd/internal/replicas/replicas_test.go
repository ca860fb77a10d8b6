package replicas

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	changed    []Change
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
		Name: name, Secret: secret, Topic: "bus", Log: zap.NewNop(),
		Apply:   func(all []Withdrawal) { lock(func() { n.applied = append(n.applied, all...) }) },
		Adopt:   func(all []Withdrawal) { lock(func() { n.adopted = append(n.adopted, all...) }) },
		Kick:    func(all []string) { lock(func() { n.kicked = append(n.kicked, all...) }) },
		Purge:   func() { lock(func() { n.purges++ }) },
		Changed: func(all []Change) { lock(func() { n.changed = append(n.changed, all...) }) },
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
	n.way = n.newOutlet("way", nil)
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
							other.deliver(payload)
						}
					}
					n.delivered(n.way, 1, nil)
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

// TestChangesOfAttributesReachEachOtherReplica: a change may have any number of keys.
func TestChangesOfAttributesReachEachOtherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		want := []string{"interval"}
		a.Change("pump", want)
		var many []string
		for i := range 1000 {
			many = append(many, fmt.Sprint(strings.Repeat("k", 250), i))
		}
		a.Change("gateway/pump", many)
		synctest.Wait()
		for _, n := range []*node{b, c} {
			n.mu.Lock()
			got := slices.Clone(n.changed)
			n.mu.Unlock()
			if len(got) < 3 || got[0].Device != "pump" || !slices.Equal(got[0].Keys, want) {
				t.Fatalf("%s got %d changes", n.Name(), len(got))
			}
			var keys []string
			for _, change := range got[1:] {
				if change.Device != "gateway/pump" {
					t.Errorf("a change of %s", change.Device)
				}
				keys = append(keys, change.Keys...)
			}
			if !slices.Equal(keys, many) {
				t.Errorf("%s got %d keys, want %d", n.Name(), len(keys), len(many))
			}
		}
		if a.changed != nil || a.Stats().Dropped != 0 {
			t.Errorf("the sender itself got %v, stats %+v", a.changed, a.Stats())
		}
	})
}

// TestRunEndsWhenTheServerHasTheLastMessages: Run returns when the server has acknowledged the last
// message, which takes half a second here, and not as soon as the message was sent.
func TestRunEndsWhenTheServerHasTheLastMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "a", testSecret)
		said := 0
		n.transport = func(ctx context.Context) {
			for ctx.Err() == nil {
				select {
				case <-n.way.queue:
					select {
					case <-time.After(500 * time.Millisecond):
						said++
						n.delivered(n.way, 1, nil)
					case <-ctx.Done():
					}
				case <-ctx.Done():
				}
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		n.linkUp(n.way)
		time.AfterFunc(11*time.Second, func() {
			n.Kick("pump")
			stop()
		})
		n.Run(ctx)
		if sent := int(n.Stats().Sent); said != sent {
			t.Errorf("%d of %d messages were said", said, sent)
		}
	})
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
