package replicas

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

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

// TestReplicaThatReturnsLaterIsCaughtUp: after an outage of the bus the first replica that is back
// asks when no other can answer. It gets what another has withdrawn meanwhile when that one is
// back.
func TestReplicaThatReturnsLaterIsCaughtUp(t *testing.T) {
	for _, later := range []time.Duration{time.Second, 4 * time.Second, 10 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newNode(t, "a", testSecret), newNode(t, "b", testSecret)
			run(t, a, b)
			for _, n := range []*node{a, b} {
				n.setDeaf(true)
				n.linkDown(n.way, nil)
			}
			a.Withdraw(subject("pump"))
			time.Sleep(time.Minute)
			b.setDeaf(false)
			b.linkUp(b.way)
			time.Sleep(later)
			a.setDeaf(false)
			a.linkUp(a.way)
			time.Sleep(time.Minute)
			synctest.Wait()
			if applied, _, _, _ := b.see(); len(applied) != 1 || !applied[0].Missed {
				t.Errorf("%v later: b applied %v", later, applied)
			}
		})
	}
}

// TestMessageThatPanicsIsCaughtUp: what it said is asked for again.
func TestMessageThatPanicsIsCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newNode(t, "a", testSecret), newNode(t, "b", testSecret)
		apply, panics := b.options.Apply, 0
		b.options.Panicked = func(*task.Panic) { panics++ }
		b.options.Apply = func(all []Withdrawal) {
			if panics == 0 {
				panic("a bug")
			}
			apply(all)
		}
		run(t, a, b)
		a.Withdraw(subject("pump"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if applied, _, _, recoveries := b.see(); len(applied) != 1 || recoveries != 2 || panics != 1 {
			t.Errorf("b applied %v, recovered %d times and panicked %d times", applied, recoveries, panics)
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
