package cache_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

// varying is a source whose answers say what they depend on.
type varying struct {
	asked  atomic.Int32
	answer func(authz.Request) (*authz.Grant, error)
}

func (v *varying) Authorize(_ context.Context, r authz.Request) (*authz.Grant, error) {
	v.asked.Add(1)
	return v.answer(r)
}

func with(token, clientID, username string) authz.Request {
	return authz.Request{Token: authz.NewToken(token), ClientID: clientID, Username: username}
}

// TestNarrowAnswer: an answer that depends only on the token is used for a device that has a
// new client id every time.
func TestNarrowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &varying{answer: func(r authz.Request) (*authz.Grant, error) {
			return &authz.Grant{TokenID: "t", Subject: "s", Keep: authz.Keep{Narrow: true}}, nil
		}}
		c := cache.New(source, cache.Options{Vary: cache.ClientID | cache.Username})
		defer c.Close()
		for _, id := range []string{"one", "two", "three"} {
			if _, err := c.Authorize(t.Context(), with("token", id, id)); err != nil {
				t.Fatal(err)
			}
		}
		if n := source.asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		if _, err := c.Authorize(t.Context(), with("other", "one", "one")); err != nil || source.asked.Load() != 2 {
			t.Errorf("another token: %v, asked %d times", err, source.asked.Load())
		}
		if n := c.Revoke(authz.Revocation{TokenID: "t"}); n != 2 {
			t.Errorf("%d entries were revoked, want 2", n)
		}
		if _, err := c.Authorize(t.Context(), with("token", "four", "")); err != nil || source.asked.Load() != 3 {
			t.Errorf("after the revocation: %v, asked %d times", err, source.asked.Load())
		}
	})
}

// TestNarrowAnswerServesOnlyMatchingRequests: an answer is used only for requests that agree in
// the parts it depends on.
func TestNarrowAnswerServesOnlyMatchingRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &varying{answer: func(r authz.Request) (*authz.Grant, error) {
			if r.Username != "good" {
				return nil, &authz.Denial{Reason: authz.NotAuthorized, Keep: authz.Keep{Narrow: true, Vary: authz.PartUsername}}
			}
			return &authz.Grant{Subject: "s", Keep: authz.Keep{Narrow: true, Vary: authz.PartUsername}}, nil
		}}
		c := cache.New(source, cache.Options{Vary: cache.ClientID | cache.Username})
		defer c.Close()
		for range 2 {
			for _, id := range []string{"one", "two"} {
				if _, err := c.Authorize(t.Context(), with("token", id, "good")); err != nil {
					t.Errorf("good user, client %s: %v", id, err)
				}
				if _, err := c.Authorize(t.Context(), with("token", id, "bad")); err == nil {
					t.Errorf("bad user, client %s: let in", id)
				}
			}
		}
		if n := source.asked.Load(); n != 2 {
			t.Errorf("asked %d times, want once for each user name", n)
		}
	})
}

// TestNarrowAnswerWidens: if a source changes what its answers depend on, that takes effect
// with its next answer.
func TestNarrowAnswerWidens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		narrow := true
		source := &varying{answer: func(r authz.Request) (*authz.Grant, error) {
			return &authz.Grant{Subject: r.ClientID, Keep: authz.Keep{TTL: 10 * time.Second, Narrow: narrow}}, nil
		}}
		c := cache.New(source, cache.Options{Vary: cache.ClientID, RefreshAhead: -1})
		defer c.Close()
		ask := func(id, subject string) {
			t.Helper()
			if g, err := c.Authorize(t.Context(), with("token", id, "")); err != nil || g.Subject != subject {
				t.Errorf("client %s: %v, %v; want the answer of %s", id, g, err, subject)
			}
		}
		ask("one", "one")
		ask("two", "one")
		narrow = false
		time.Sleep(11 * time.Second)
		ask("two", "two")
		ask("three", "three")
		ask("two", "two")
		narrow = true
		time.Sleep(11 * time.Second)
		ask("four", "four")
		ask("five", "four")
		if n := source.asked.Load(); n != 4 {
			t.Errorf("asked %d times, want 4", n)
		}
	})
}

// TestNarrowingBeyondTheSource: parts that the source does not look at never matter.
func TestNarrowingBeyondTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &varying{answer: func(authz.Request) (*authz.Grant, error) {
			return &authz.Grant{Subject: "s", Keep: authz.Keep{Narrow: true, Vary: authz.PartClientID | authz.PartAddr}}, nil
		}}
		c := cache.New(source, cache.Options{Vary: cache.ClientID})
		defer c.Close()
		r := with("token", "one", "")
		for range 2 {
			if _, err := c.Authorize(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			r.Username = "another"
		}
		if n := source.asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}
