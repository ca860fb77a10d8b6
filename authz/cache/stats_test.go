package cache_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

func TestStats(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		want := func(when string, want cache.Stats) {
			t.Helper()
			synctest.Wait()
			got := r.Stats()
			if got.Positive.Entries == 0 != (got.Positive.Bytes == 0) {
				t.Errorf("%s: %d entries in %d bytes", when, got.Positive.Entries, got.Positive.Bytes)
			}
			got.Positive.Bytes = 0
			if got != want {
				t.Errorf("%s:\n got %+v\nwant %+v", when, got, want)
			}
		}
		var s cache.Stats
		want("at first", s)

		r.ask(request("t"))
		r.ask(request("t"))
		s.Misses, s.Positive.Hits, s.Positive.Entries, s.Source.Granted = 1, 1, 1, 1
		want("after a miss and a hit", s)

		r.service.set(denyAll)
		r.ask(request("u"))
		r.ask(request("u"))
		s.Misses, s.Negative.Hits, s.Negative.Entries, s.Source.Denied = 2, 1, 1, 1
		want("after a denial and a negative hit", s)

		time.Sleep(10 * time.Second)
		r.service.set(down)
		r.ask(request("u"))
		r.ask(request("u"))
		s.Misses, s.Negative.Entries, s.Negative.Expirations = 4, 0, 1
		s.Source.Unavailable, s.Cooled = 1, 1
		want("after an error", s)

		time.Sleep(40 * time.Second)
		r.ask(request("t"))
		s.Positive.Hits, s.Source.Unavailable, s.Refresh.Unavailable = 2, 2, 1
		want("after a refresh that failed", s)

		time.Sleep(10 * time.Second)
		r.ask(request("t"))
		r.ask(request("t"))
		s.Misses, s.Positive.Expirations, s.Source.Unavailable, s.Cooled, s.Stale = 6, 1, 3, 2, 2
		want("after its time", s)

		time.Sleep(10 * time.Second)
		r.service.set(grantAll)
		r.ask(request("t"))
		s.Misses, s.Source.Granted = 7, 2
		want("after a new grant", s)

		r.Revoke(authz.Revocation{TokenHash: request("t").Token.Hash()})
		s.Positive.Entries = 0
		want("after a revocation", s)
	})
}
