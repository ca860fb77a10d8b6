package cache_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

type answer struct {
	grant *authz.Grant
	err   error
	at    time.Time
}

// begin asks for q in a goroutine of its own and returns when that is waiting.
func (r rig) begin(q authz.Request) <-chan answer { return r.beginWith(r.Context(), q) }

func (r rig) beginWith(ctx context.Context, q authz.Request) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		g, err := r.Authorize(ctx, q)
		answers <- answer{g, err, time.Now()}
	}()
	synctest.Wait()
	return answers
}

func TestSingleFlight(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.slow(time.Second)
		var answers []<-chan answer
		for range 100 {
			answers = append(answers, r.begin(request("t")))
		}
		other := r.begin(request("u"))
		first := (<-answers[0]).grant
		for _, a := range answers[1:] {
			if got := <-a; got.err != nil || got.grant != first {
				t.Errorf("a waiter gets %v, %v", got.grant, got.err)
			}
		}
		if got := <-other; got.err != nil || got.grant == first {
			t.Errorf("another token gets %v, %v", got.grant, got.err)
		}
		if n, s := r.service.calls(), r.Stats(); n != 2 || s.Coalesced != 99 || s.Misses != 101 {
			t.Errorf("%d calls, %d coalesced, %d misses", n, s.Coalesced, s.Misses)
		}
	})
}

// TestSingleFlightDetached: the caller that began the request gives up.
func TestSingleFlightDetached(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.slow(3 * time.Second)
		start := time.Now()
		ctx, cancel := context.WithCancel(r.Context())
		first := r.beginWith(ctx, request("t"))
		hasty, stop := context.WithTimeout(r.Context(), 2*time.Second)
		defer stop()
		second := r.beginWith(hasty, request("t"))
		third := r.begin(request("t"))
		time.Sleep(time.Second)
		cancel()
		for name, tc := range map[string]struct {
			answer <-chan answer
			err    error
			after  time.Duration
		}{
			"canceled": {first, context.Canceled, time.Second},
			"hasty":    {second, context.DeadlineExceeded, 2 * time.Second},
			"patient":  {third, nil, 3 * time.Second},
		} {
			if got := <-tc.answer; !errors.Is(got.err, tc.err) || (got.grant != nil) != (tc.err == nil) || got.at.Sub(start) != tc.after {
				t.Errorf("%s: %v, %v after %v", name, got.grant, got.err, got.at.Sub(start))
			}
		}
		if got := r.ask(request("t")); got != cached || r.service.calls() != 1 {
			t.Errorf("afterwards it is %s, after %d calls", got, r.service.calls())
		}
	})
	// The answer is stored even if no caller waits for it any more.
	bubble(t, cache.Options{}, func(r rig) {
		r.service.slow(3 * time.Second)
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		<-r.beginWith(ctx, request("t"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := r.ask(request("t")); got != cached {
			t.Errorf("it is %s", got)
		}
	})
}

func TestSingleFlightWaiters(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.slow(time.Second)
		ctx, cancel := context.WithCancel(r.Context())
		leaver := r.beginWith(ctx, request("t"))
		for range 1023 {
			r.begin(request("t"))
		}
		if _, err := r.Authorize(r.Context(), request("t")); !errors.Is(err, authz.ErrBusy) {
			t.Errorf("waiter 1,025 gets %v, want ErrBusy", err)
		}
		cancel()
		<-leaver
		synctest.Wait()
		if got := <-r.begin(request("t")); got.err != nil {
			t.Errorf("with a waiter less: %v", got.err)
		}
	})
}

func TestSingleFlightPanic(t *testing.T) {
	for name, tc := range map[string]struct {
		answer authorizeFunc
		want   string
	}{
		"a text":  {func(_ context.Context, r authz.Request) (*authz.Grant, error) { panic(r.Token.Reveal()) }, "with a string"},
		"nothing": {func(context.Context, authz.Request) (*authz.Grant, error) { panic(nil) }, "nil"},
		"a bug": {func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			return nil, r.Peer.CheckSignatureFrom(nil)
		}, "nil pointer"},
		"end of thread": {func(context.Context, authz.Request) (*authz.Grant, error) { runtime.Goexit(); return nil, nil }, "neither"},
		"neither":       {func(context.Context, authz.Request) (*authz.Grant, error) { return nil, nil }, "neither"},
		"both":          {func(context.Context, authz.Request) (*authz.Grant, error) { return &authz.Grant{}, authz.ErrDenied }, "both"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache.Options{Concurrency: 1}, func(r rig) {
				r.service.set(tc.answer)
				_, err := r.Authorize(r.Context(), request("the-token-itself"))
				if !errors.Is(err, authz.ErrUnavailable) || errors.Is(err, authz.ErrDenied) ||
					!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "the-token-itself") {
					t.Errorf("Authorize = %v", err)
				}
				r.service.set(grantAll) // the place at the source is free again
				if got := r.ask(request("t")); got != asked {
					t.Errorf("afterwards another token is %s", got)
				}
			})
		})
	}
}

// TestRecheck: the sessions of one token ask again, one after the other.
func TestRecheck(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		connect, again := request("t"), request("t")
		again.Purpose = authz.Recheck
		r.ask(connect)
		time.Sleep(30 * time.Second)
		for i := range 1000 { // 4 s for all of them
			want := cached
			if i == 0 {
				want = asked
			}
			if got := r.ask(again); got != want {
				t.Fatalf("recheck %d is %s", i, got)
			}
			time.Sleep(4 * ms)
		}
		r.expect(again, after{0, cached}, after{time.Second, asked})
		r.service.set(down)
		r.expect(again, after{5 * time.Second, "granted after asking"}) // a stored grant stays valid
		r.service.set(denyAll)
		r.expect(again, after{5 * time.Second, askedNo}, after{9 * time.Second, refused}, after{10 * time.Second, askedNo})
		r.expect(connect, after{0, refused})
		// A grant replaces a denial that has not expired.
		r.service.set(grantAll)
		r.expect(again, after{5 * time.Second, asked})
		r.Revoke(authz.Revocation{TokenHash: again.Token.Hash()})
		r.expect(connect, after{0, asked})
	})
}

func TestInvalidateRace(t *testing.T) {
	q := request("t")
	id := q.Token.Fingerprint()
	for name, tc := range map[string]struct {
		revoke func(c *cache.Cache)
		meant  bool
	}{
		"token":         {func(c *cache.Cache) { c.Revoke(authz.Revocation{TokenHash: q.Token.Hash()}) }, true},
		"token id":      {func(c *cache.Cache) { c.Revoke(authz.Revocation{TokenID: id}) }, true},
		"subject":       {func(c *cache.Cache) { c.Revoke(authz.Revocation{Subject: id}) }, true},
		"purge":         {func(c *cache.Cache) { c.Purge() }, true},
		"another":       {func(c *cache.Cache) { c.Revoke(authz.Revocation{Subject: "pump-8"}) }, false},
		"nothing":       {func(c *cache.Cache) { c.Revoke(authz.Revocation{}) }, false},
		"1,024 others":  {revokeOthers(1024), false},
		"too many":      {revokeOthers(1025), true},
		"far too many":  {revokeOthers(5000), true},
		"meant, hidden": {func(c *cache.Cache) { c.Revoke(authz.Revocation{TokenID: id}); revokeOthers(1000)(c) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache.Options{}, func(r rig) {
				revokeOthers(1500)(r.Cache) // earlier revocations have no effect
				r.service.slow(time.Second)
				first, second := r.begin(q), r.begin(q)
				time.Sleep(500 * ms)
				r.service.set(denyAll) // from now on; the request in progress has its answer
				tc.revoke(r.Cache)
				for _, a := range []<-chan answer{first, second} {
					if got := <-a; errors.Is(got.err, authz.ErrDenied) != tc.meant {
						t.Errorf("a waiter gets %v, %v", got.grant, got.err)
					}
				}
				want, calls := cached, 1
				if tc.meant {
					want, calls = refused, 2
				}
				if got := r.ask(q); got != want || r.service.calls() != calls {
					t.Errorf("afterwards it is %s after %d calls, want %s after %d", got, r.service.calls(), want, calls)
				}
				if s := r.Stats(); s.Void != uint64(calls-1) {
					t.Errorf("%d answers were void", s.Void)
				}
			})
		})
	}
}

// revokeOthers revokes n subjects that no token has.
func revokeOthers(n int) func(c *cache.Cache) {
	return func(c *cache.Cache) {
		for range n {
			c.Revoke(authz.Revocation{Subject: "nobody"})
		}
	}
}

// TestInvalidateStorm revokes faster than the source can answer.
func TestInvalidateStorm(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.slow(time.Second)
		q := request("t")
		a := r.begin(q)
		for range 10 {
			time.Sleep(700 * ms)
			r.Revoke(authz.Revocation{TokenHash: q.Token.Hash()})
		}
		got := <-a
		if !errors.Is(got.err, authz.ErrUnavailable) || r.service.calls() != 4 {
			t.Errorf("Authorize = %v, %v after %d calls", got.grant, got.err, r.service.calls())
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.ask(request("kept"))
		r.service.slow(time.Hour)
		under := r.begin(request("t"))
		for _, q := range fleet(31) {
			r.begin(q)
		}
		waiting := r.begin(request("z"))
		if s := r.Stats(); s.InFlight != 32 || s.Queued != 1 {
			t.Fatalf("%d in flight, %d queued", s.InFlight, s.Queued)
		}
		start := time.Now()
		r.Close()
		for name, a := range map[string]<-chan answer{"at the source": under, "in the queue": waiting} {
			if got := <-a; !errors.Is(got.err, authz.ErrUnavailable) || !got.at.Equal(start) {
				t.Errorf("%s: %v, %v after %v", name, got.grant, got.err, got.at.Sub(start))
			}
		}
		r.expect(request("u"), after{0, failed})
		before := r.Stats()
		r.expect(request("kept"), after{0, cached}, after{50 * time.Second, cached}, after{time.Minute, failed})
		r.Close()
		s := r.Stats()
		if s.InFlight != 0 || s.Queued != 0 {
			t.Errorf("%d in flight, %d queued after Close", s.InFlight, s.Queued)
		}
		if s.Source != before.Source || s.Busy != before.Busy {
			t.Errorf("requests to the source after Close: %+v, then %+v", before, s)
		}
	})
	t.Run("waits", func(t *testing.T) {
		bubble(t, cache.Options{}, func(r rig) {
			r.service.set(func(context.Context, authz.Request) (*authz.Grant, error) {
				time.Sleep(3 * time.Second) // whatever its context is
				return nil, errDown
			})
			r.begin(request("t"))
			start := time.Now()
			if r.Close(); time.Since(start) != 3*time.Second {
				t.Errorf("Close returned after %v, before the source", time.Since(start))
			}
		})
	})
}

func TestCanceledHit(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.ask(request("t"))
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		if g, err := r.Authorize(ctx, request("t")); g != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("Authorize = %v, %v with a canceled context", g, err)
		}
	})
}
