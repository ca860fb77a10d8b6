package cache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

// busy is the answer of a source that is overloaded.
func busy(context.Context, authz.Request) (*authz.Grant, error) { return nil, authz.ErrBusy }

func throttled(context.Context, authz.Request) (*authz.Grant, error) { return nil, authz.ErrThrottled }

func panics(context.Context, authz.Request) (*authz.Grant, error) { panic("no") }

func TestStaleIfError(t *testing.T) {
	// The TTL of an entry is jittered; the steps below allow for a minute of it and all of
	// Stale.
	const certainly, latest = 354*time.Second - 1, 360 * time.Second
	keep := func(ttl, stale time.Duration) authz.Grant {
		return authz.Grant{Keep: authz.Keep{TTL: ttl, Stale: stale}}
	}
	for name, tc := range map[string]struct {
		options cache.Options
		grant   authz.Grant
		expires time.Duration
		fault   authorizeFunc
		steps   []after
	}{
		"default":   {never, authz.Grant{}, 0, down, []after{{time.Minute, askedOld}, {certainly, askedOld}, {latest, askedFail}}},
		"busy":      {never, authz.Grant{}, 0, busy, []after{{time.Minute, askedFail}, {61*time.Second - 1, failed}}},
		"throttled": {never, authz.Grant{}, 0, throttled, []after{{time.Minute, askedFail}}},
		"panic":     {never, authz.Grant{}, 0, panics, []after{{time.Minute, askedOld}}},
		"denied":    {never, authz.Grant{}, 0, denyAll, []after{{time.Minute, askedNo}, {61 * time.Second, refused}}},
		"config": {cache.Options{Stale: 10 * time.Second, RefreshAhead: -1}, authz.Grant{}, 0, down,
			[]after{{60 * time.Second, askedOld}, {70 * time.Second, askedFail}}},
		"off":                {cache.Options{Stale: -1, RefreshAhead: -1}, authz.Grant{}, 0, down, []after{{time.Minute, askedFail}}},
		"source wants less":  {never, keep(0, 10*time.Second), 0, down, []after{{60 * time.Second, askedOld}, {70 * time.Second, askedFail}}},
		"source wants none":  {never, keep(0, -1), 0, down, []after{{time.Minute, askedFail}}},
		"source wants more":  {never, keep(0, time.Hour), 0, down, []after{{certainly, askedOld}, {latest, askedFail}}},
		"never past Expires": {never, authz.Grant{}, 100 * time.Second, down, []after{{100*time.Second - 1, askedOld}, {100 * time.Second, failed}, {102 * time.Second, askedFail}}},
		"in the cool-down": {never, authz.Grant{}, 0, down,
			[]after{{60 * time.Second, askedOld}, {60*time.Second + 999*ms, cachedOld}, {61 * time.Second, askedOld}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, tc.options, func(r rig) {
				if tc.expires != 0 {
					tc.grant.Expires = time.Now().Add(tc.expires).Round(0)
				}
				r.service.set(grant(tc.grant))
				r.ask(request("t"))
				r.service.set(tc.fault)
				r.expect(request("t"), tc.steps...)
			})
		})
	}
}

func TestStaleNeverAfterRevocation(t *testing.T) {
	q := request("t")
	for name, revoke := range map[string]func(c *cache.Cache){
		"evict": func(c *cache.Cache) { c.Revoke(authz.Revocation{TokenHash: q.Token.Hash()}) },
		"purge": func(c *cache.Cache) { c.Purge() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, never, func(r rig) {
				r.ask(q)
				r.service.set(down)
				r.expect(q, after{60 * time.Second, askedOld})
				time.Sleep(time.Second)
				revoke(r.Cache)
				r.expect(q, after{0, askedFail}, after{0, failed})
			})
		})
	}
	t.Run("while the source hangs", func(t *testing.T) {
		bubble(t, never, func(r rig) {
			r.ask(q)
			time.Sleep(time.Minute)
			r.service.set(down)
			r.service.slow(3 * time.Second)
			answer := r.begin(q)
			time.Sleep(time.Second)
			r.Revoke(authz.Revocation{TokenHash: q.Token.Hash()})
			if got := <-answer; got.grant != nil || !errors.Is(got.err, errDown) {
				t.Errorf("Authorize = %v, %v", got.grant, got.err)
			}
		})
	})
}

// TestColdStart: without an old grant, no device connects while the source is down.
func TestColdStart(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.set(down)
		r.expect(request("t"), after{0, askedFail}, after{time.Hour, askedFail})
	})
}

// TestSlowOutage: the source hangs instead of failing.
func TestSlowOutage(t *testing.T) {
	bubble(t, cache.Options{Timeout: 2 * time.Second, RefreshAhead: -1}, func(r rig) {
		r.ask(request("t"))
		r.service.slow(time.Hour)
		time.Sleep(time.Minute)
		start := time.Now()
		if got := r.ask(request("t")); got != askedOld || time.Since(start) != 2*time.Second {
			t.Errorf("a known token is %s after %v", got, time.Since(start))
		}
		_, err := r.Authorize(r.Context(), request("u"))
		if !errors.Is(err, authz.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an unknown token gets %v, want unavailable without the context's error", err)
		}
	})
}

// TestNothingStaleWithoutAsking: an expired grant is not used because the source could not be
// asked.
func TestNothingStaleWithoutAsking(t *testing.T) {
	q := request("known")
	for name, keep := range map[string]func(r rig){
		"no place in the queue": func(r rig) {
			r.service.slow(time.Hour)
			r.knows("other", 2)
			r.crowd("other", 2, authz.Connect)
		},
		"closed": func(r rig) { r.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache.Options{RefreshAhead: -1, Concurrency: 1, Queue: 1, Timeout: time.Hour}, func(r rig) {
				r.ask(q)
				for i := range 2 {
					r.ask(request(fmt.Sprint("other", i)))
				}
				time.Sleep(time.Minute)
				keep(r)
				if got := r.ask(q); got != failed {
					r.Errorf("it is %s", got)
				}
			})
		})
	}
}

// TestKnownIsSet: Known tells the source which requests it has granted before, whatever the
// caller set.
func TestKnownIsSet(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		q := request("t")
		q.Known = true
		r.ask(q)
		q.Known = false
		r.expect(q, after{50 * time.Second, cached}, after{3 * time.Minute, asked}) // with a refresh
		r.service.set(denyAll)
		r.expect(q, after{2 * time.Minute, askedNo}, after{3 * time.Minute, askedNo})
		var got []bool
		for _, asked := range r.service.asked {
			got = append(got, asked.Known)
		}
		if want := []bool{false, true, true, true, false}; !slices.Equal(got, want) {
			r.Errorf("the source received Known %v, want %v", got, want)
		}
	})
}
