package cache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

func login(user, password string) authz.Request {
	return authz.Request{Pair: authz.Pair{ClientID: "c-" + user, Username: user, Password: authz.NewToken(password)}}
}

// users grants each user with the password "good", and is wrong about all others.
func users(_ context.Context, r authz.Request) (*authz.Grant, error) {
	if r.Pair.Password.Reveal() != "good" {
		return nil, &authz.Denial{Reason: authz.WrongPassword}
	}
	u := r.Pair.Username
	return &authz.Grant{TokenID: u, Subject: u, PairHash: authz.PairHash(u, "stored")}, nil
}

// TestPairsAreKeys: an answer is found by user name and password together, never by one of
// them, and by the client id where the source looks at it.
func TestPairsAreKeys(t *testing.T) {
	for name, vary := range map[string]cache.Field{"client id does not matter": 0, "client id matters": cache.ClientID} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache.Options{Vary: vary}, func(r rig) {
				r.service.set(users)
				r.expect(login("a", "good"), after{0, asked}, after{1, cached})
				r.expect(login("b", "good"), after{0, asked}, after{1, cached})
				r.expect(login("a", "bad"), after{0, askedNo}, after{1, refused})
				r.expect(login("b", "bad"), after{0, askedNo})
				r.expect(login("a", "good"), after{0, cached})
				if g, err := r.Authorize(t.Context(), login("b", "good")); err != nil || g.Subject != "b" {
					t.Errorf("b is %v, %v", g, err)
				}
				other := login("a", "good")
				other.Pair.ClientID = "another"
				want := cached
				if vary != 0 {
					want = asked
				}
				r.expect(other, after{0, want})
			})
		})
	}
}

// TestUsersOfOnePasswordAreRevokedAlone: a fleet may have one password in common.
func TestUsersOfOnePasswordAreRevokedAlone(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.set(users)
		for _, u := range []string{"a", "b", "c"} {
			r.expect(login(u, "good"), after{0, asked})
		}
		if n := r.Revoke(authz.Revocation{TokenID: "b"}); n != 1 {
			t.Errorf("%d grants of b", n)
		}
		r.expect(login("a", "good"), after{0, cached})
		r.expect(login("b", "good"), after{0, asked})
		if n := r.Revoke(authz.Revocation{TokenHash: authz.PairHash("c", "stored")}); n != 1 {
			t.Errorf("%d grants of c by the hash of its pair", n)
		}
		r.expect(login("c", "good"), after{0, asked})
	})
}

// watchedUsers is a service that reports its revocations.
type watchedUsers struct {
	*service
	revocations chan authz.Revocation
}

func (w watchedUsers) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-w.revocations:
			revoked(r)
		}
	}
}

// TestWatchedSourceIsNotAskedAgain: what it does not report has not changed, also for a
// recheck and near the end of the answer's time.
func TestWatchedSourceIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchedUsers{&service{}, make(chan authz.Revocation)}
		w.set(users)
		c := cache.New(w, cache.Options{Watched: true, TTL: cache.MaxTTL, NegativeTTL: time.Minute})
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go func() { _ = c.Notify(ctx, func(authz.Revocation) {}) }()
		r := rig{T: t, Cache: c, service: w.service}
		recheck := login("a", "good")
		recheck.Purpose = authz.Recheck
		r.expect(login("a", "good"), after{0, asked}, after{50 * time.Minute, cached})
		r.expect(recheck, after{0, cached})
		r.expect(login("a", "bad"), after{0, askedNo}, after{time.Second, refused})
		r.expect(login("b", "good"), after{0, asked})
		// The password of a is another one now.
		w.set(grantAll)
		w.revocations <- authz.Revocation{TokenID: "a"}
		synctest.Wait()
		r.expect(login("a", "good"), after{0, asked})
		r.expect(login("a", "bad"), after{0, asked})
		r.expect(login("b", "good"), after{0, cached})
	})
}

// TestDenialUnderWayOfAWatchedSource: one that was under way while the source changed is not
// kept, and the device gets the new answer.
func TestDenialUnderWayOfAWatchedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchedUsers{&service{}, make(chan authz.Revocation)}
		w.set(users)
		w.slow(time.Second)
		c := cache.New(w, cache.Options{Watched: true})
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go func() { _ = c.Notify(ctx, func(authz.Revocation) {}) }()
		time.AfterFunc(500*time.Millisecond, func() {
			w.revocations <- authz.Revocation{TokenID: "a"}
			w.set(grantAll)
		})
		if g, err := c.Authorize(t.Context(), login("a", "new")); err != nil {
			t.Errorf("%v, %v", g, err)
		}
	})
}
