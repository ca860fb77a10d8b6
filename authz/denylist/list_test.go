package denylist

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
)

// source knows one token, counts requests, and can be broken.
type source struct {
	expires time.Time
	broken  atomic.Bool
	asked   atomic.Int32
}

var errDown = fmt.Errorf("down: %w", authz.ErrUnavailable)

func (s *source) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	s.asked.Add(1)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.broken.Load():
		return nil, errDown
	case !r.Token.Equal(good.Token):
		return nil, authz.ErrUnknown
	}
	return &authz.Grant{TokenID: "t1", Subject: "pump-7", Expires: s.expires}, nil
}

var good = authz.Request{Token: authz.NewToken("good-token-of-pump-7"), ClientID: "pump-7"}

// three names of the valid token, one of each kind
func three() map[string]authz.Revocation {
	return map[string]authz.Revocation{
		"token":    {TokenHash: good.Token.Hash()},
		"token id": {TokenID: "t1"},
		"subject":  {Subject: "pump-7"},
	}
}

func open(t testing.TB, path string) *List {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func filePath(t testing.TB) string { return filepath.Join(t.TempDir(), "denials.jsonl") }

// refused reports whether the valid token is denied as revoked.
func refused(t *testing.T, a authz.Authorizer) bool {
	t.Helper()
	_, err := a.Authorize(t.Context(), good)
	d, ok := errors.AsType[*authz.Denial](err)
	if err != nil && (!ok || d.Reason != authz.Revoked || d.Keep != authz.Keep{TTL: -1, Stale: -1}) {
		t.Errorf("Authorize = %v", err)
	}
	return err != nil
}

func TestConformance(t *testing.T) {
	authztest.Run(t, authztest.Suite{
		New: func(tb testing.TB) authztest.Fixture {
			s := new(source)
			return authztest.Fixture{Authorizer: open(tb, filePath(tb)).Before(s), Break: func() { s.broken.Store(true) }}
		},
		Good:    good,
		Unknown: authz.Request{Token: authz.NewToken("unknown-token")},
	})
}

// TestDenialIsCheckedBeforeTheSource: whatever the source answers, until the denial ends.
func TestDenialIsCheckedBeforeTheSource(t *testing.T) {
	for name, r := range three() {
		t.Run(name, func(t *testing.T) {
			path := filePath(t)
			synctest.Test(t, func(t *testing.T) {
				l, s := open(t, path), new(source)
				a := l.Before(s)
				if refused(t, a) {
					t.Fatal("denied before it was")
				}
				if err := l.Deny(r, time.Now().Add(time.Hour), false); err != nil {
					t.Fatal(err)
				}
				if !refused(t, a) || l.Len() != 1 {
					t.Errorf("let in, with %d denials", l.Len())
				}
				time.Sleep(time.Hour - time.Second)
				if !refused(t, a) {
					t.Error("let in before its time")
				}
				time.Sleep(time.Second)
				if refused(t, a) || l.Len() != 0 {
					t.Errorf("denied beyond its time, with %d denials", l.Len())
				}
			})
		})
	}
}

// TestDeniedTokenIsNotAskedFor: it then does not matter whether the source is down or slow.
func TestDeniedTokenIsNotAskedFor(t *testing.T) {
	l, s := open(t, filePath(t)), new(source)
	if err := l.Deny(three()["token"], time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	if !refused(t, l.Before(s)) || s.asked.Load() != 0 {
		t.Errorf("%d questions", s.asked.Load())
	}
}

// TestDenialFollowsTheToken: a denial without an end holds as long as the token could be used.
func TestDenialFollowsTheToken(t *testing.T) {
	for name, want := range map[string]time.Duration{"token": 720 * time.Hour, "token id": 720 * time.Hour, "subject": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			path := filePath(t)
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				l, s := open(t, path), &source{expires: begin.Add(720 * time.Hour)}
				if err := l.Deny(three()[name], begin.Add(24*time.Hour), true); err != nil {
					t.Fatal(err)
				}
				if !refused(t, l.Before(s)) || !refused(t, l.Before(s)) {
					t.Fatal("let in")
				}
				if asked := s.asked.Load(); name == "token" && asked != 1 {
					t.Errorf("%d questions, want one for its end", asked)
				}
				if err := l.Save(); err != nil {
					t.Fatal(err)
				}
				l = open(t, path)
				time.Sleep(want - time.Second)
				if !refused(t, l.Before(s)) {
					t.Error("let in before its end")
				}
				time.Sleep(time.Second)
				if refused(t, l.Before(s)) {
					t.Error("denied beyond its end")
				}
			})
		})
	}
}

// TestDenialThatFollowsHoldsMeanwhile: the source is asked for the expiry of the token, and the
// token is denied whatever it answers.
func TestDenialThatFollowsHoldsMeanwhile(t *testing.T) {
	l, s := open(t, filePath(t)), new(source)
	if err := l.Deny(three()["token"], time.Now().Add(time.Hour), true); err != nil {
		t.Fatal(err)
	}
	s.broken.Store(true)
	if !refused(t, l.Before(s)) {
		t.Error("a source that is down lets it in")
	}
}

// TestLaterDenialReplaces: an operator may end a denial earlier, a default may not.
func TestLaterDenialReplaces(t *testing.T) {
	l, now := open(t, filePath(t)), time.Now()
	r := authz.Revocation{TokenID: "t1"}
	for i, step := range []struct {
		until, want time.Duration
		follow      bool
	}{
		{48 * time.Hour, 48 * time.Hour, false},
		{24 * time.Hour, 48 * time.Hour, true},
		{time.Hour, time.Hour, false},
	} {
		if err := l.Deny(r, now.Add(step.until), step.follow); err != nil {
			t.Fatal(err)
		}
		if got := l.denials[r].until; !got.Equal(whole(now.Add(step.want))) {
			t.Errorf("step %d: until %v, want %v", i, got, now.Add(step.want))
		}
	}
}

// TestFullListRefuses: no denial is removed to make room, except those that have ended.
func TestFullListRefuses(t *testing.T) {
	path := filePath(t)
	synctest.Test(t, func(t *testing.T) {
		l, until := open(t, path), time.Now().Add(time.Hour)
		for i := range Max {
			if err := l.Deny(authz.Revocation{TokenID: fmt.Sprint(i)}, until, false); err != nil {
				t.Fatal(err)
			}
		}
		one := authz.Revocation{Subject: "one more"}
		if err := l.Deny(one, until, false); !errors.Is(err, ErrFull) || l.Len() != Max {
			t.Errorf("Deny = %v with %d denials", err, l.Len())
		}
		if err := l.Deny(authz.Revocation{TokenID: "1"}, until, true); err != nil {
			t.Errorf("one that is there already: %v", err)
		}
		if err := l.Save(); err != nil {
			t.Fatal(err)
		}
		if n := open(t, path).Len(); n != Max {
			t.Errorf("%d denials after a restart", n)
		}
		time.Sleep(time.Hour + time.Second)
		if err := l.Deny(one, until.Add(time.Hour), false); err != nil || l.Len() != 1 {
			t.Errorf("Deny = %v with %d denials", err, l.Len())
		}
	})
}

func TestDenyNeedsSomething(t *testing.T) {
	if err := open(t, filePath(t)).Deny(authz.Revocation{}, time.Now().Add(time.Hour), false); !errors.Is(err, ErrNothing) {
		t.Errorf("Deny = %v", err)
	}
}

// TestNotifyIsThatOfTheSource: the list adds nothing to the revocations of a source.
func TestNotifyIsThatOfTheSource(t *testing.T) {
	reported := authz.Revocation{TokenID: "t1"}
	a := open(t, filePath(t)).Before(notifier{reported})
	var got authz.Revocation
	if err := a.(authz.Notifier).Notify(t.Context(), func(r authz.Revocation) { got = r }); err != nil || got != reported {
		t.Errorf("Notify = %v, reported %+v", err, got)
	}
}

type notifier struct{ authz.Revocation }

func (notifier) Authorize(context.Context, authz.Request) (*authz.Grant, error) {
	return nil, authz.ErrUnknown
}

func (n notifier) Notify(_ context.Context, revoked func(authz.Revocation)) error {
	revoked(n.Revocation)
	return nil
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	l := open(t, filePath(t))
	a := l.Before(&source{expires: time.Now().Add(48 * time.Hour)})
	done := make(chan struct{})
	for n := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 50 {
				r := authz.Revocation{TokenID: fmt.Sprint(n, "-", i)}
				if i%10 == 0 {
					r = authz.Revocation{TokenID: "t1"}
				}
				if err := errors.Join(l.Deny(r, time.Now().Add(time.Hour), true), l.Save()); err != nil {
					t.Error(err)
				}
				if !refused(t, a) {
					t.Error("let in")
				}
				l.Len()
			}
		}()
	}
	for range 4 {
		<-done
	}
}

func TestDenialsInForceAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(filepath.Join(t.TempDir(), "denials.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		pump, valve := authz.Revocation{Subject: "pump"}, authz.Revocation{TokenID: "valve"}
		until := time.Now().Add(time.Hour)
		for r, end := range map[authz.Revocation]time.Time{pump: time.Now().Add(time.Minute), valve: until} {
			if err := l.Deny(r, end, r == valve); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		all := l.All()
		if len(all) != 1 || all[0].Revocation != valve || !all[0].Until.Equal(until) || !all[0].Follow {
			t.Errorf("in force: %v", all)
		}
		if l.Has(pump) || !l.Has(valve) {
			t.Errorf("pump is denied: %t, valve: %t, want the valve alone", l.Has(pump), l.Has(valve))
		}
	})
}
