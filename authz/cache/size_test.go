package cache_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

func TestSize(t *testing.T) {
	bubble(t, cache.Options{Size: 160, NegativeSize: 80}, func(r rig) {
		for _, q := range fleet(5000) {
			r.ask(q)
		}
		r.service.set(denyAll)
		for i := range 5000 {
			r.ask(request(fmt.Sprint("unknown", i)))
		}
		s := r.Stats()
		if s.Positive.Entries != 160 || s.Positive.Evictions != 5000-160 {
			t.Errorf("grants: %+v, want 160", s.Positive)
		}
		if s.Negative.Entries != 80 || s.Negative.Evictions != 5000-80 {
			t.Errorf("denials: %+v, want 80", s.Negative)
		}
		// Evicted grants cannot be revoked any more, the others can.
		n := 0
		for _, q := range fleet(5000) {
			n += r.Revoke(authz.Revocation{Subject: q.Token.Fingerprint()})
		}
		if s := r.Stats().Positive; n != 160 || s.Entries != 0 || s.Bytes != 0 {
			t.Errorf("%d entries were revoked; left: %+v", n, s)
		}
	})
}

// TestSizeKeepsTheUsed: the entries that are not used are evicted.
func TestSizeKeepsTheUsed(t *testing.T) {
	bubble(t, cache.Options{Size: 1600}, func(r rig) {
		used := fleet(16)
		for i := range 20_000 {
			if i%20 == 0 {
				for _, q := range used {
					if got := r.ask(q); i > 0 && got != cached {
						t.Fatalf("a token in use is %s", got)
					}
				}
			}
			r.ask(request(fmt.Sprint("once", i)))
		}
	})
}

func TestSizeInBytes(t *testing.T) {
	big := strings.Repeat("x", 10_000)
	for name, g := range map[string]authz.Grant{
		"attributes": {Attrs: map[string]string{"note": big}},
		"names":      {Attrs: map[string]string{big: ""}},
		"client ids": {Only: authz.Conditions{ClientIDs: []string{"a", big}}},
		"user names": {Only: authz.Conditions{Usernames: []string{big}}},
		"addresses":  {Only: authz.Conditions{Addrs: make([]netip.Prefix, 400)}},
		"upstream":   {Upstream: authz.Upstream{Password: authz.NewToken(big)}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache.Options{Bytes: 4 << 20}, func(r rig) {
				r.service.set(func(_ context.Context, q authz.Request) (*authz.Grant, error) {
					g := g
					g.TokenID = q.Token.Reveal()
					return &g, nil
				})
				for _, q := range fleet(2000) {
					r.ask(q)
				}
				s := r.Stats().Positive
				if s.Bytes > 4<<20 || s.Bytes < 3<<20 || s.Bytes < s.Entries*10_000 || s.Evictions == 0 {
					t.Errorf("%+v, want no more than 4 MiB in full use", s)
				}
			})
		})
	}
	t.Run("too big for any", func(t *testing.T) {
		bubble(t, cache.Options{Bytes: 16 << 10}, func(r rig) {
			r.service.set(grant(authz.Grant{TokenID: big}))
			r.expect(request("t"), after{0, asked}, after{0, asked})
			if s := r.Stats().Positive; s.Entries != 0 || s.Bytes != 0 {
				t.Errorf("%+v is held", s)
			}
		})
	})
}

func TestInternedGrants(t *testing.T) {
	grantOf := func(q authz.Request) *authz.Grant {
		return &authz.Grant{
			TokenID: q.Token.Fingerprint(),
			Attrs:   map[string]string{"site": "north", "model": "P-3", "line": fmt.Sprint(len(q.ClientID))},
			Only:    authz.Conditions{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		}
	}
	bubble(t, cache.Options{Vary: cache.ClientID}, func(r rig) {
		var sources []*authz.Grant
		r.service.set(func(_ context.Context, q authz.Request) (*authz.Grant, error) {
			g := grantOf(q)
			sources = append(sources, g)
			return g, nil
		})
		get := func(token, client string) *authz.Grant {
			g, err := r.Authorize(r.Context(), authz.Request{Token: authz.NewToken(token), ClientID: client})
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		a, twin, other, longer := get("a", "1"), get("a", "2"), get("b", "1"), get("a", "long")
		if a != twin {
			t.Error("equal grants are two objects")
		}
		if a == other || a == longer {
			t.Error("different grants are one object")
		}
		shared := func(x, y map[string]string) bool { return fmt.Sprintf("%p", x) == fmt.Sprintf("%p", y) }
		if !shared(a.Attrs, other.Attrs) || shared(a.Attrs, longer.Attrs) {
			t.Errorf("attributes are shared: equal %v, different %v", shared(a.Attrs, other.Attrs), shared(a.Attrs, longer.Attrs))
		}
		if other.TokenID == a.TokenID || !maps.Equal(longer.Attrs, map[string]string{"site": "north", "model": "P-3", "line": "4"}) {
			t.Error("a grant has changed")
		}
		if shared(sources[2].Attrs, a.Attrs) {
			t.Error("the source's own grant was changed")
		}
	})
}

// TestOneTokenEvictsOnlyItsOwn: one token connects with many client identifiers while twenty
// devices with tokens of their own are disconnected.
func TestOneTokenEvictsOnlyItsOwn(t *testing.T) {
	bubble(t, cache.Options{Size: 160, Vary: cache.ClientID}, func(r rig) {
		devices := fleet(20)
		for _, q := range devices {
			r.ask(q)
		}
		var last authz.Request
		for i := range 2000 {
			last = authz.Request{Token: authz.NewToken("shared"), ClientID: fmt.Sprint(i)}
			r.ask(last)
		}
		for i, q := range devices {
			if got := r.ask(q); got != cached {
				r.Fatalf("device %d is %s", i, got)
			}
		}
		if got := r.ask(last); got != cached {
			r.Errorf("the client identifier that the shared token used last is %s", got)
		}
		if s := r.Stats().Positive; s.Entries != 160 || r.Revoke(authz.Revocation{TokenHash: last.Token.Hash()}) != 140 {
			r.Errorf("%d grants are held, want 160, of which the shared token has 140", s.Entries)
		}
	})
}
