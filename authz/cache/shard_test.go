package cache

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"pgregory.net/rapid"
)

// TestIndex adds and removes entries at random.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newIndexes().bySubject
		var present []*entry
		for i := range rapid.IntRange(1, 50).Draw(t, "steps") {
			if n := len(present); n > 0 && rapid.Bool().Draw(t, "remove") {
				at := rapid.IntRange(0, n-1).Draw(t, "at")
				x.remove(present[at])
				present = slices.Delete(present, at, at+1)
			} else {
				subject := rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "subject")
				e := &entry{key: key{byte(i)}, grant: &authz.Grant{Subject: subject}}
				x.add(e)
				present = append(present, e)
			}
			for _, subject := range []string{"a", "b", ""} {
				var want []key
				for _, e := range slices.Backward(present) {
					if e.grant.Subject == subject {
						want = append(want, e.key)
					}
				}
				if got := x.keys(subject); !slices.Equal(got, want) {
					t.Fatalf("subject %q has the entries %v, want %v", subject, got, want)
				}
			}
		}
		for _, e := range present {
			x.remove(e)
		}
		if len(x.heads) != 0 {
			t.Fatalf("%d lists are left of no entries", len(x.heads))
		}
	})
}

// TestFreshAfterClockStep: if the wall clock is set forward, ages do not change but Expires
// takes effect.
func TestFreshAfterClockStep(t *testing.T) {
	now := time.Now()
	e := &entry{grant: &authz.Grant{Expires: now}, asked: now, ttl: time.Minute, stale: time.Hour}
	if !e.fresh(now.Add(-1)) || e.fresh(now) {
		t.Errorf("an entry is fresh until Expires: %v, at Expires: %v", e.fresh(now.Add(-1)), e.fresh(now))
	}
}

// TestRefreshFlag: one hit per second starts the renewal.
func TestRefreshFlag(t *testing.T) {
	s, start := newShard(Options{}.withDefaults()), time.Now()
	s.putGrant(&entry{grant: &authz.Grant{}, asked: start, refresh: 10 * time.Second, ttl: time.Minute})
	for _, step := range []struct {
		at   time.Duration
		want bool
	}{
		{10*time.Second - 1, false}, {10 * time.Second, true}, {10 * time.Second, false},
		{11*time.Second - 1, false}, {12 * time.Second, true}, {13*time.Second - 1, false}, {13 * time.Second, true},
	} {
		if got := s.find(key{}, start.Add(step.at), time.Hour).refresh; got != step.want {
			t.Errorf("after %v: refresh %v", step.at, got)
		}
	}
}

func TestTimed(t *testing.T) {
	m, now := newTimed[string, int](3), time.Now()
	for i, k := range []string{"a", "b", "c", "d"} {
		m.add(k, i, now, now.Add(time.Duration(i+1)*time.Second))
	}
	if _, _, ok := m.get("a", now); ok {
		t.Error("four of three are kept")
	}
	if v, until, ok := m.get("d", now); !ok || v != 3 || !until.Equal(now.Add(4*time.Second)) {
		t.Errorf("get = %d until %v, %v", v, until, ok)
	}
	m.add("e", 4, now.Add(3*time.Second), now.Add(5*time.Second))
	if m.lru.Len() != 2 {
		t.Errorf("%d are left, want those that have not ended", m.lru.Len())
	}
}

// TestRevokedBeforeWaitersRun: an answer may be revoked after it is stored, but before the
// callers that wait for it run.
func TestRevokedBeforeWaitersRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(static{&authz.Grant{TokenID: "a"}}, Options{})
		defer c.Close()
		r := authz.Request{Token: authz.NewToken("t")}
		k, hash := c.keys.of(&r), r.Token.Hash()
		f, _, err := c.join(k, hash, r)
		if err != nil {
			t.Fatal(err)
		}
		<-f.done
		c.Revoke(authz.Revocation{TokenID: "b"})
		if c.overtaken(f) {
			t.Error("another token's revocation overtakes it")
		}
		c.Revoke(authz.Revocation{TokenID: "a"})
		if !c.overtaken(f) {
			t.Error("a revocation does not overtake an answer on its way")
		}
	})
}

// TestLateLookup: an answer may be stored between a caller's lookup and its request.
func TestLateLookup(t *testing.T) {
	for name, source := range map[string]authz.Authorizer{"grant": static{&authz.Grant{}}, "denial": denier{}} {
		c := New(source, Options{})
		defer c.Close()
		r := authz.Request{Token: authz.NewToken("t")}
		want, wantErr := c.Authorize(t.Context(), r)
		f, got, err := c.join(c.keys.of(&r), r.Token.Hash(), r)
		if f != nil || got != want || err != wantErr {
			t.Errorf("%s: join = %v, %v, %v; want what is stored", name, f, got, err)
		}
	}
}

// denier denies everything with one denial.
type denier struct{}

var refused = &authz.Denial{Reason: authz.Disabled}

func (denier) Authorize(context.Context, authz.Request) (*authz.Grant, error) { return nil, refused }
