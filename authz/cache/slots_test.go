package cache_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

// crowd asks for n tokens, each in a goroutine of its own, and returns when all have their
// answers.
func (r rig) crowd(prefix string, n int, purpose authz.Purpose) *crowd {
	c := &crowd{ended: make(map[string]int)}
	for i := range n {
		q := request(fmt.Sprint(prefix, i))
		q.Purpose = purpose
		c.running.Go(func() {
			_, err := r.Authorize(r.Context(), q)
			c.mu.Lock()
			defer c.mu.Unlock()
			switch {
			case err == nil:
				c.ended["granted"]++
			case errors.Is(err, authz.ErrBusy):
				c.ended["busy"]++
			default:
				c.ended[err.Error()]++
			}
		})
	}
	synctest.Wait()
	return c
}

type crowd struct {
	running sync.WaitGroup
	mu      sync.Mutex
	ended   map[string]int // number of outcomes
}

func (c *crowd) so(outcome string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended[outcome]
}

// knows makes the Cache store n tokens, which then expire.
func (r rig) knows(prefix string, n int) {
	for i := range n {
		r.ask(request(fmt.Sprint(prefix, i)))
	}
	time.Sleep(time.Minute)
}

func (r rig) wantLoad(inFlight, queued int) {
	r.Helper()
	if s := r.Stats(); s.InFlight != inFlight || s.Queued != queued {
		r.Errorf("%d in flight and %d queued, want %d and %d", s.InFlight, s.Queued, inFlight, queued)
	}
}

func TestConcurrency(t *testing.T) {
	bubble(t, never, func(r rig) {
		r.knows("known", 100)
		r.service.slow(time.Second)
		c := r.crowd("known", 100, authz.Connect)
		r.wantLoad(64, 36)
		c.running.Wait()
		if r.service.most != 64 || c.so("granted") != 100 {
			t.Errorf("%d at once, %v", r.service.most, c.ended)
		}
	})
}

// TestConcurrencyUnknown: unknown tokens take all places that they can get, then known ones
// ask.
func TestConcurrencyUnknown(t *testing.T) {
	bubble(t, never, func(r rig) {
		r.knows("known", 64)
		r.service.slow(time.Second)
		start := time.Now()
		flood := r.crowd("unknown", 200, authz.Connect)
		r.wantLoad(32, 168)
		devices := r.crowd("known", 64, authz.Connect)
		r.wantLoad(64, 200)
		devices.running.Wait()
		if took := time.Since(start); took != 2*time.Second || devices.so("granted") != 64 {
			t.Errorf("known tokens: %v after %v, want all after 2s", devices.ended, took)
		}
		flood.running.Wait()
		// Two rounds of 32 succeed before the wait of the others is over. A third begins at the
		// same moment and may succeed or not.
		if n := flood.so("granted"); n < 64 || n > 96 || n+flood.so("busy") != 200 {
			t.Errorf("unknown tokens: %v", flood.ended)
		}
		r.wantLoad(0, 0)
	})
}

func TestConcurrencyRecheck(t *testing.T) {
	bubble(t, never, func(r rig) {
		r.knows("known", 64)
		r.service.slow(time.Second)
		sessions := r.crowd("session", 100, authz.Recheck)
		r.wantLoad(48, 52)
		devices := r.crowd("known", 64, authz.Connect)
		r.wantLoad(64, 100)
		unknown := r.crowd("unknown", 32, authz.Connect)
		time.Sleep(time.Second)
		synctest.Wait()
		// 48 known tokens are here, then 12 of 16 others that are unknown; 12 = 48 - 36 of the
		// places that are not reserved for known tokens.
		r.wantLoad(64, 52+32-16)
		time.Sleep(time.Second)
		synctest.Wait()
		if devices.so("granted") != 64 || unknown.so("granted") != 16 || sessions.so("granted") != 48 {
			t.Errorf("known %v, unknown %v, rechecks %v", devices.ended, unknown.ended, sessions.ended)
		}
		unknown.running.Wait()
		sessions.running.Wait()
	})
}

func TestConcurrencyRefresh(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.crowd("known", 64, authz.Connect).running.Wait()
		time.Sleep(50 * time.Second)
		r.service.slow(time.Second)
		flood := r.crowd("unknown", 64, authz.Connect)
		r.crowd("known", 64, authz.Connect).running.Wait() // hits that start refreshes
		r.wantLoad(64, 64)
		time.Sleep(2*time.Second + 1)
		flood.running.Wait()
		if s := r.Stats().Refresh; s.Granted != 64 {
			t.Errorf("refreshes: %+v, want 64 granted", s)
		}
	})
}

func TestQueue(t *testing.T) {
	bubble(t, cache.Options{RefreshAhead: -1, Stale: -1, Queue: 1024}, func(r rig) {
		r.knows("known", 1500)
		r.service.slow(time.Hour)
		flood := r.crowd("unknown", 600, authz.Connect)
		r.wantLoad(32, 512)
		sessions := r.crowd("session", 1000, authz.Recheck)
		r.wantLoad(48, 768)
		devices := r.crowd("known", 1500, authz.Connect)
		r.wantLoad(64, 1024)
		if flood.so("busy") != 600-512-32 || sessions.so("busy") != 1000-256-16 || devices.so("busy") != 1500-256-16 {
			t.Errorf("at once: unknown %v, rechecks %v, known %v", flood.ended, sessions.ended, devices.ended)
		}
		time.Sleep(2*time.Second - 1)
		synctest.Wait()
		r.wantLoad(64, 1024)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		r.wantLoad(64, 0)
		if flood.so("busy") != 600-32 || sessions.so("busy") != 1000-16 {
			t.Errorf("after 2 s: unknown %v, rechecks %v", flood.ended, sessions.ended)
		}
	})
}

// TestQueuePromotes: a device waits for a request that began as a recheck.
func TestQueuePromotes(t *testing.T) {
	bubble(t, cache.Options{Concurrency: 2, RefreshAhead: -1}, func(r rig) {
		r.knows("known", 3)
		r.service.slow(time.Second)
		first := r.crowd("known", 2, authz.Connect)
		r.wantLoad(2, 0)
		sessions := r.crowd("session", 1, authz.Recheck)
		last := request("known2")
		last.Purpose = authz.Recheck
		r.begin(last) // it is behind the other recheck
		last.Purpose = authz.Connect
		start := time.Now()
		got := <-r.begin(last)
		if took := got.at.Sub(start); got.err != nil || took != 2*time.Second {
			t.Errorf("Authorize = %v after %v, want it with the next round", got.err, took)
		}
		first.running.Wait()
		sessions.running.Wait()
	})
	bubble(t, cache.Options{Concurrency: 4, RefreshAhead: -1}, func(r rig) {
		r.knows("known", 1)
		r.service.slow(time.Second)
		sessions := r.crowd("session", 3, authz.Recheck) // all the places that rechecks get
		q := request("known0")
		q.Purpose = authz.Recheck
		r.begin(q)
		r.wantLoad(3, 1)
		q.Purpose = authz.Connect
		r.begin(q) // there is a place for it
		r.wantLoad(4, 0)
		sessions.running.Wait()
	})
}

// TestFewPlaces: the same rules hold for small numbers.
func TestFewPlaces(t *testing.T) {
	for size, want := range map[int][2]int{1: {1, 1}, 2: {1, 1}, 3: {1, 2}, 4: {2, 3}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, cache.Options{Concurrency: size}, func(r rig) {
				r.service.slow(time.Second)
				for i, purpose := range []authz.Purpose{authz.Connect, authz.Recheck} {
					c := r.crowd(purpose.String(), 4, purpose)
					if got := r.Stats().InFlight; got != want[i] {
						t.Errorf("%v: %d in flight, want %d", purpose, got, want[i])
					}
					c.running.Wait()
				}
			})
		})
	}
}

// TestFirstComeFirstServed checks the order of the queue.
func TestFirstComeFirstServed(t *testing.T) {
	bubble(t, cache.Options{Concurrency: 2}, func(r rig) { // one place for unknown tokens
		r.service.slow(100 * ms)
		var order []string
		var answers []<-chan answer
		for i := range 10 {
			answers = append(answers, r.begin(request(fmt.Sprint(i))))
		}
		for _, a := range answers {
			<-a
		}
		for _, q := range r.service.asked {
			order = append(order, q.Token.Reveal())
		}
		if !slices.IsSorted(order) || len(order) != 10 {
			t.Errorf("the source was asked for %v", order)
		}
	})
}
