package denylist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// TestDenialSurvivesARestart: name and end stay the same.
func TestDenialSurvivesARestart(t *testing.T) {
	for name, r := range three() {
		path := filePath(t)
		l := open(t, path)
		until := time.Now().Add(time.Hour)
		if err := errors.Join(l.Deny(r, until, true), l.Save()); err != nil {
			t.Fatal(err)
		}
		again := open(t, path)
		if got, want := again.denials[r], l.denials[r]; !got.until.Equal(want.until) || got.until.Before(until) || got.follow != want.follow {
			t.Errorf("%s: %+v became %+v", name, want, got)
		}
		if !refused(t, again.Before(new(source))) {
			t.Errorf("%s: let in after a restart", name)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the file has mode %v, %v", name, info.Mode(), err)
		}
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

// TestDenialHoldsThoughItCannotBeSaved: it is saved when that is possible again.
func TestDenialHoldsThoughItCannotBeSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "denials.jsonl")
	l := open(t, path)
	if err := l.Deny(authz.Revocation{Subject: "pump-7"}, time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err == nil || !refused(t, l.Before(new(source))) {
		t.Errorf("Save = %v", err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err != nil || open(t, path).Len() != 1 {
		t.Errorf("Save = %v", err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err != nil {
		t.Error(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("Save writes though nothing has changed")
	}
}

func TestOpenRefusesABrokenFile(t *testing.T) {
	const until = `"until":"2100-01-01T00:00:00Z"`
	for text, want := range map[string]string{
		"{\n":                                 ":1: the text ends early: expected a key",
		"\n":                                  ":1: the text ends early: expected one JSON object",
		`{"subject":"a",` + until + "}\n[]\n": ":2: column 1: expected one JSON object",
		`{"subject":"a",` + until + `} {}`:    ":1: column 48: more text after",
		`{"subject":"a","token_id":"b",` + until + `}`: ":1: exactly one of",
		`{` + until + `}`:                                                  ":1: exactly one of",
		`{"subject":"a"}`:                                                  ":1: until is missing",
		`{"subject":"a","until":"tomorrow"}`:                               ":1: until is not a time",
		`{"subject":"a","more":1,` + until + `}`:                           ":1: an unknown key",
		`{"subject":"a","subject":"b",` + until + `}`:                      ":1: column 16: subject: a duplicate key",
		`{"subject":"a","follow":true,` + until + `}`:                      ":1: the denial of a subject",
		`{"token_sha256":"abc",` + until + `}`:                             ":1: token_sha256 is not 64",
		`{"token_sha256":"` + strings.Repeat("0", 64) + `",` + until + `}`: ":1: exactly one of",
		`{"subject":"` + strings.Repeat("a", maxLine) + `",` + until + `}`: ":1: bufio.Scanner: token too long",
	} {
		path := filePath(t)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path+want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestOpenWithoutAFile(t *testing.T) {
	if l := open(t, filePath(t)); l.Len() != 0 {
		t.Errorf("%d denials", l.Len())
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened a directory")
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

// FuzzParse: a line that is accepted has the same meaning when it is written again, and an
// error contains nothing of the line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"subject":"a","until":"2100-01-01T00:00:00Z"}`, `{"token_id":"a","until":"2100-01-01T00:00:00.5+02:00","follow":true}`,
		`{"token_sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","until":"9999-12-31T23:59:59Z"}`, `{}`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, d, err := parse(text)
		if err != nil || !d.until.After(time.Time{}) { // a denial that has ended is not written
			return
		}
		again, err := render(map[authz.Revocation]denial{r: d})
		if err != nil {
			t.Fatalf("%q cannot be written: %v", text, err)
		}
		r2, d2, err := parse(again)
		if err != nil || r2 != r || !d2.until.Equal(d.until) || d2.follow != d.follow {
			t.Errorf("%q became %q: %v", text, again, err)
		}
	})
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
