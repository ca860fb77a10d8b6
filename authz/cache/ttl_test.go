package cache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

const ms = time.Millisecond

// never disables background refreshes in a test.
var never = cache.Options{RefreshAhead: -1}

func TestPositiveTTL(t *testing.T) {
	for name, tc := range map[string]struct {
		options cache.Options
		grant   authz.Grant
		expires time.Duration // from now; zero means never
		steps   []after
	}{
		"default": {never, authz.Grant{}, 0, []after{{0, asked}, {54*time.Second - 1, cached}, {time.Minute, asked}}},
		"config":  {cache.Options{TTL: 5 * time.Second, RefreshAhead: -1}, authz.Grant{}, 0, []after{{0, asked}, {4500*ms - 1, cached}, {5 * time.Second, asked}}},
		"cap": {cache.Options{TTL: 24 * time.Hour, RefreshAhead: -1}, authz.Grant{}, 0,
			[]after{{0, asked}, {54*time.Minute - 1, cached}, {time.Hour, asked}}},
		"source wants less":  {never, authz.Grant{Keep: authz.Keep{TTL: 10 * time.Second}}, 0, []after{{0, asked}, {9*time.Second - 1, cached}, {10 * time.Second, asked}}},
		"source wants more":  {never, authz.Grant{Keep: authz.Keep{TTL: time.Hour}}, 0, []after{{0, asked}, {time.Minute, asked}}},
		"expires earlier":    {never, authz.Grant{}, 7 * time.Second, []after{{0, asked}, {7*time.Second - 1, cached}, {7 * time.Second, asked}}},
		"expires later":      {never, authz.Grant{}, time.Hour, []after{{0, asked}, {54*time.Second - 1, cached}, {time.Minute, asked}}},
		"over when it comes": {never, authz.Grant{}, -time.Second, []after{{0, asked}, {0, asked}}},
		"off":                {cache.Options{TTL: -1}, authz.Grant{}, 0, []after{{0, asked}, {0, asked}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, tc.options, func(r rig) {
				if tc.expires != 0 {
					tc.grant.Expires = time.Now().Add(tc.expires).Round(0)
				}
				r.service.set(grant(tc.grant))
				r.expect(request("t"), tc.steps...)
			})
		})
	}
}

// TestJitter checks when many entries that were stored together expire.
func TestJitter(t *testing.T) {
	bubble(t, never, func(r rig) {
		requests := fleet(500)
		for _, q := range requests {
			r.ask(q)
		}
		time.Sleep(57 * time.Second) // the middle of the range
		before := r.service.calls()
		for _, q := range requests {
			r.ask(q)
		}
		if n := r.service.calls() - before; n < 150 || n > 350 {
			r.Errorf("after 57 s %d of 500 entries have ended, want about half", n)
		}
	})
}

func TestNegativeTTL(t *testing.T) {
	unknown := authz.Denial{Reason: authz.Unknown}
	kept := func(ttl time.Duration) authorizeFunc {
		return deny(authz.Denial{Reason: authz.Disabled, Keep: authz.Keep{TTL: ttl}})
	}
	bare := func(err error) authorizeFunc {
		return func(context.Context, authz.Request) (*authz.Grant, error) { return nil, err }
	}
	tenSeconds := []after{{0, askedNo}, {10*time.Second - 1, refused}, {10 * time.Second, askedNo}}
	for name, tc := range map[string]struct {
		options cache.Options
		answer  authorizeFunc
		steps   []after
	}{
		"default": {cache.Options{}, deny(unknown), tenSeconds},
		"config":  {cache.Options{NegativeTTL: time.Second}, deny(unknown), []after{{0, askedNo}, {time.Second - 1, refused}, {time.Second, askedNo}}},
		"cap": {cache.Options{NegativeTTL: time.Hour}, deny(unknown),
			[]after{{0, askedNo}, {time.Minute - 1, refused}, {time.Minute, askedNo}}},
		"source wants less":    {cache.Options{}, kept(2 * time.Second), []after{{0, askedNo}, {2*time.Second - 1, refused}, {2 * time.Second, askedNo}}},
		"source wants more":    {cache.Options{}, kept(time.Hour), tenSeconds},
		"source wants none":    {cache.Options{}, kept(-1), []after{{0, askedNo}, {0, askedNo}}},
		"off":                  {cache.Options{NegativeTTL: -1}, deny(unknown), []after{{0, askedNo}, {0, askedNo}}},
		"sentinel":             {cache.Options{}, bare(authz.ErrUnknown), tenSeconds},
		"wrapped":              {cache.Options{}, bare(fmt.Errorf("service: %w", &unknown)), tenSeconds},
		"denied and not there": {cache.Options{}, bare(errors.Join(authz.ErrDenied, authz.ErrUnavailable)), []after{{0, askedFail}, {0, failed}}},
		"denied by a timeout":  {cache.Options{}, bare(errors.Join(authz.ErrDenied, context.DeadlineExceeded)), []after{{0, askedFail}, {0, failed}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, tc.options, func(r rig) {
				r.service.set(tc.answer)
				r.expect(request("t"), tc.steps...)
			})
		})
	}
}

// TestNegativeHit: a stored denial is returned unchanged.
func TestNegativeHit(t *testing.T) {
	long := make([]byte, 1000)
	for i := range long {
		long[i] = 'x'
	}
	for name, tc := range map[string]struct {
		answer error
		reason authz.Reason
		detail int
	}{
		"denial":       {&authz.Denial{Reason: authz.Disabled, Detail: "by hand"}, authz.Disabled, 7},
		"long detail":  {&authz.Denial{Reason: authz.Disabled, Detail: string(long)}, authz.Disabled, 256},
		"long subject": {&authz.Denial{Reason: authz.Disabled, Detail: "by hand", Subject: string(long)}, authz.Disabled, 7},
		"cut in two":   {&authz.Denial{Reason: authz.Disabled, Detail: string(long[:255]) + "é"}, authz.Disabled, 255},
		"bare denial":  {fmt.Errorf("no: %w", authz.ErrDenied), authz.NotAuthorized, 0},
		"bare unknown": {fmt.Errorf("no: %w", authz.ErrUnknown), authz.Unknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache.Options{}, func(r rig) {
				r.service.set(func(context.Context, authz.Request) (*authz.Grant, error) { return nil, tc.answer })
				_, first := r.Authorize(r.Context(), request("t"))
				_, second := r.Authorize(r.Context(), request("t"))
				if !errors.Is(first, tc.answer) {
					r.Errorf("the first answer is %v, want the source's own", first)
				}
				d, ok := errors.AsType[*authz.Denial](second)
				if !ok || d.Reason != tc.reason || len(d.Detail) != tc.detail || len(d.Subject) > 256 {
					r.Errorf("the second answer is %.40v, want reason %s and %d bytes of detail", second, tc.reason, tc.detail)
				}
				if errors.Is(first, authz.ErrUnknown) != errors.Is(second, authz.ErrUnknown) {
					r.Error("the denial changed its kind")
				}
			})
		})
	}
}

// TestOneAnswerAtATime: the source changes its answer, both ways.
func TestOneAnswerAtATime(t *testing.T) {
	bubble(t, never, func(r rig) {
		r.expect(request("t"), after{0, asked})
		r.service.set(denyAll)
		r.expect(request("t"), after{0, cached}, after{time.Minute, askedNo}, after{61 * time.Second, refused})
		r.service.set(down)
		r.expect(request("t"), after{10 * time.Second, askedFail}) // the grant is not used as a stale one any more
		r.service.set(grantAll)
		r.expect(request("t"), after{time.Second, asked}, after{2 * time.Second, cached})
		if s := r.Stats(); s.Positive.Entries != 1 || s.Negative.Entries != 0 {
			r.Errorf("%d grants and %d denials are held for one key", s.Positive.Entries, s.Negative.Entries)
		}
	})
}

func TestErrorsAreNotStored(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.set(down)
		r.expect(request("t"), after{0, askedFail})
		r.service.set(grantAll)
		r.expect(request("t"), after{time.Second, asked})
		if s := r.Stats(); s.Positive.Entries != 1 || s.Negative.Entries != 0 {
			r.Errorf("%d grants and %d denials are held", s.Positive.Entries, s.Negative.Entries)
		}
	})
}

func TestErrorCoolDown(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.set(down)
		r.expect(request("t"), after{0, askedFail}, after{1 * ms, failed}, after{999 * ms, failed}, after{time.Second, askedFail})
		if got := r.ask(request("other")); got != askedFail {
			r.Errorf("another token is %s", got)
		}
		if _, err := r.Authorize(r.Context(), request("t")); !errors.Is(err, errDown) {
			r.Errorf("in the cool-down Authorize = %v, want what failed", err)
		}
		if n := r.Stats().Cooled; n != 3 {
			r.Errorf("%d requests were cooled, want 3", n)
		}
	})
}

// TestCacheControl: the source does not want answers to be reused.
func TestCacheControl(t *testing.T) {
	bubble(t, never, func(r rig) {
		noStore := grant(authz.Grant{TokenID: "a", Keep: authz.Keep{TTL: -1}})
		r.service.set(noStore)
		r.expect(request("t"), after{0, asked}, after{0, asked})
		// It also removes an earlier answer that could be reused.
		r.service.set(grantAll)
		r.expect(request("u"), after{0, asked})
		r.service.set(noStore)
		r.expect(request("u"), after{time.Minute, asked})
		r.service.set(down)
		r.expect(request("u"), after{0, askedFail})
		// must-revalidate: stored, but not used when stale
		r.service.set(grant(authz.Grant{TokenID: "b", Keep: authz.Keep{Stale: -1}}))
		r.expect(request("v"), after{0, asked}, after{0, cached})
		r.service.set(down)
		r.expect(request("v"), after{time.Minute, askedFail})
		// A denial that must not be stored removes the grant nevertheless.
		r.service.set(grantAll)
		r.expect(request("w"), after{0, asked})
		r.service.set(deny(authz.Denial{Reason: authz.Disabled, Keep: authz.Keep{TTL: -1}}))
		r.expect(request("w"), after{time.Minute, askedNo})
		r.service.set(down)
		r.expect(request("w"), after{0, askedFail})
	})
}

func TestHitsDoNotExtendTTL(t *testing.T) {
	bubble(t, never, func(r rig) {
		var steps []after
		for at := time.Duration(0); at < 54*time.Second; at += time.Second {
			steps = append(steps, after{at, cached})
		}
		steps[0].want = asked
		r.expect(request("t"), append(steps, after{time.Minute, asked})...)
		r.service.set(denyAll)
		steps = nil
		for at := time.Duration(0); at < 10*time.Second; at += time.Second {
			steps = append(steps, after{at, refused})
		}
		steps[0].want = askedNo
		r.expect(request("u"), append(steps, after{10 * time.Second, askedNo})...)
	})
}

func TestTTLCountsFromTheQuestion(t *testing.T) {
	bubble(t, cache.Options{TTL: 3 * time.Second, RefreshAhead: -1}, func(r rig) {
		r.service.slow(2 * time.Second)
		r.ask(request("t"))
		time.Sleep(time.Second)
		if got := r.ask(request("t")); got != asked {
			r.Errorf("3 s after it was asked for the grant is %s", got)
		}
		r.service.slow(4 * time.Second)
		r.ask(request("u"))
		if n := r.Stats().Positive.Entries; n != 1 {
			r.Errorf("%d entries, want none for an answer that came too late", n)
		}
		r.service.set(denyAll)
		r.ask(request("v"))
		r.expect(request("v"), after{6*time.Second - 1, refused}, after{6 * time.Second, askedNo})
	})
}

func TestRefreshAhead(t *testing.T) {
	first, second := grant(authz.Grant{TokenID: "a", Subject: "1"}), grant(authz.Grant{TokenID: "a", Subject: "2"})
	for name, tc := range map[string]struct {
		answer  authorizeFunc
		subject string // of the hit that follows
		steps   []after
	}{
		"replaces": {second, "2", []after{{7 * time.Second, cached}, {7 * time.Second, cached}, {40 * time.Second, cached}}},
		"removes":  {denyAll, "", []after{{7 * time.Second, cached}, {7 * time.Second, refused}, {17 * time.Second, askedNo}}},
		"fails":    {down, "1", []after{{7 * time.Second, cached}, {7 * time.Second, cached}, {17 * time.Second, askedOld}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache.Options{}, func(r rig) {
				r.service.set(first)
				r.expect(request("t"), after{0, asked}, after{43*time.Second - 1, cached})
				if got := r.service.purposes(); len(got) != 1 {
					r.Fatalf("before the last fifth the source was asked for %v", got)
				}
				r.service.set(tc.answer)
				r.expect(request("t"), tc.steps[0]) // at 50 s
				if g, _ := r.Authorize(r.Context(), request("t")); tc.subject != "" && (g == nil || g.Subject != tc.subject) {
					r.Errorf("after the refresh the grant is %+v, want subject %q", g, tc.subject)
				}
				for _, step := range tc.steps[1:] {
					step.d -= tc.steps[0].d
					r.expect(request("t"), step)
				}
			})
		})
	}
	t.Run("once", func(t *testing.T) {
		bubble(t, cache.Options{}, func(r rig) {
			r.ask(request("t"))
			r.service.slow(3 * time.Second)
			time.Sleep(50 * time.Second)
			for range 20 { // 2 s of hits during the refresh
				if got := r.ask(request("t")); got == askedNo || got == askedFail {
					r.Errorf("a hit is %s", got)
				}
				time.Sleep(100 * ms)
			}
			if got, want := r.service.purposes(), []authz.Purpose{authz.Connect, authz.Refresh}; !slices.Equal(got, want) {
				r.Errorf("the source was asked for %v, want %v", got, want)
			}
		})
	})
	t.Run("before Expires", func(t *testing.T) {
		bubble(t, cache.Options{}, func(r rig) {
			r.service.set(grant(authz.Grant{Expires: time.Now().Add(10 * time.Second).Round(0)}))
			r.expect(request("t"), after{0, asked}, after{8*time.Second - 1, cached})
			r.service.set(grantAll)
			r.expect(request("t"), after{1, cached}, after{10 * time.Second, cached})
			if got, want := r.service.purposes(), []authz.Purpose{authz.Connect, authz.Refresh}; !slices.Equal(got, want) {
				r.Errorf("the source was asked for %v, want %v", got, want)
			}
		})
	})
	t.Run("fails slowly", func(t *testing.T) {
		bubble(t, cache.Options{}, func(r rig) {
			r.ask(request("t"))
			r.service.set(down)
			r.service.slow(2 * time.Second)
			time.Sleep(48 * time.Second)
			start := time.Now()
			for time.Since(start) < 6*time.Second-1 { // an attempt, its cooldown of a second, and again
				_, _ = r.Authorize(r.Context(), request("t"))
				time.Sleep(100 * ms)
			}
			if got := r.service.purposes(); len(got) != 3 {
				r.Errorf("the source was asked for %v in 6 s, want two refreshes", got)
			}
		})
	})
	t.Run("fails once a second", func(t *testing.T) {
		bubble(t, cache.Options{Stale: -1}, func(r rig) {
			r.ask(request("t"))
			r.service.set(down)
			time.Sleep(49 * time.Second)
			for range 40 { // 4 s of hits
				if g, err := r.Authorize(r.Context(), request("t")); g == nil {
					r.Errorf("a hit fails: %v", err)
				}
				synctest.Wait()
				time.Sleep(100 * ms)
			}
			if s := r.Stats().Refresh; s.Unavailable != 4 || s.Granted+s.Denied != 0 {
				r.Errorf("refreshes: %+v, want 4 that failed", s)
			}
		})
	})
}

func TestNoStaleWhileRevalidate(t *testing.T) {
	bubble(t, never, func(r rig) {
		r.ask(request("t"))
		time.Sleep(time.Minute)
		r.service.slow(time.Second)
		start := time.Now()
		if got := r.ask(request("t")); got != asked || time.Since(start) != time.Second {
			r.Errorf("past its time a grant is %s after %v", got, time.Since(start))
		}
	})
}
