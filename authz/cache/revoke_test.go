package cache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

// registry answers with the grant that is stored under the text of the token.
func registry(grants map[string]authz.Grant) authorizeFunc {
	return func(_ context.Context, r authz.Request) (*authz.Grant, error) {
		g, ok := grants[r.Token.Reveal()]
		if !ok {
			return nil, authz.ErrUnknown
		}
		return &g, nil
	}
}

var twoDevices = registry(map[string]authz.Grant{
	"a1": {TokenID: "a-1", Subject: "a"},
	"a2": {TokenID: "a-2", Subject: "a"},
	"b1": {TokenID: "b-1", Subject: "b"},
	"n1": {TokenID: "n-1"}, // no subject
	"n2": {TokenID: "n-2"},
})

func TestRevoke(t *testing.T) {
	hash := request("a1").Token.Hash()
	for name, tc := range map[string]struct {
		revocation authz.Revocation
		entries    int
		gone       string // tokens that must be asked for again
	}{
		"token":           {authz.Revocation{TokenHash: hash}, 2, "a1"},
		"token id":        {authz.Revocation{TokenID: "a-1"}, 2, "a1"},
		"subject":         {authz.Revocation{Subject: "a"}, 4, "a1 a2"},
		"first field":     {authz.Revocation{TokenID: "b-1", Subject: "a", TokenHash: hash}, 2, "b1"},
		"nobody's token":  {authz.Revocation{TokenHash: [32]byte{1}}, 0, ""},
		"nobody's id":     {authz.Revocation{TokenID: "a"}, 0, ""},
		"nobody":          {authz.Revocation{Subject: "c"}, 0, ""},
		"names nothing":   {authz.Revocation{}, 0, ""},
		"an id's subject": {authz.Revocation{Subject: "a-1"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, cache.Options{Vary: cache.ClientID}, func(r rig) {
				r.service.set(twoDevices)
				all := []string{"a1", "a2", "b1", "n1", "n2"}
				for _, client := range []string{"", "x"} {
					for _, token := range all {
						r.ask(authz.Request{Token: authz.NewToken(token), ClientID: client})
					}
				}
				if n := r.Revoke(tc.revocation); n != tc.entries {
					t.Errorf("Revoke = %d, want %d", n, tc.entries)
				}
				if n := r.Stats().Positive.Entries; n != 10-tc.entries {
					t.Errorf("%d entries are left, want %d", n, 10-tc.entries)
				}
				gone := ""
				for _, token := range all {
					if r.ask(request(token)) == asked {
						gone += " " + token
					}
				}
				if gone != "" {
					gone = gone[1:]
				}
				if gone != tc.gone {
					t.Errorf("asked again for %q, want %q", gone, tc.gone)
				}
				if n := r.Revoke(tc.revocation); n != tc.entries/2 {
					t.Errorf("Revoke = %d the second time, want %d", n, tc.entries/2)
				}
			})
		})
	}
}

func TestPurge(t *testing.T) {
	bubble(t, cache.Options{}, func(r rig) {
		r.service.set(twoDevices)
		for _, token := range []string{"a1", "a2", "x"} {
			r.ask(request(token))
		}
		r.service.set(down)
		r.ask(request("y"))
		r.service.set(twoDevices)
		if n := r.Purge(); n != 3 {
			t.Errorf("Purge = %d, want 3", n)
		}
		if s := r.Stats(); s.Positive.Entries != 0 || s.Positive.Bytes != 0 || s.Negative.Entries != 0 {
			t.Errorf("after Purge there are %+v and %+v", s.Positive, s.Negative)
		}
		r.expect(request("a1"), after{0, asked})
		r.expect(request("x"), after{0, askedNo})
		r.expect(request("y"), after{0, askedNo})
	})
	t.Run("denial under way", func(t *testing.T) {
		bubble(t, cache.Options{}, func(r rig) {
			r.service.set(denyAll)
			r.service.slow(time.Second)
			a := r.begin(request("t"))
			time.Sleep(500 * ms)
			r.service.set(grantAll)
			r.Purge()
			if got := <-a; got.err != nil {
				t.Errorf("Authorize = %v; what was true before Purge is not any more", got.err)
			}
		})
	})
}

// notifier is a service that reports revocations.
type notifier struct {
	*service
	revocations chan authz.Revocation
}

func (n notifier) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r, ok := <-n.revocations:
			if !ok {
				return errDown
			}
			revoked(r)
		}
	}
}

func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := notifier{&service{answer: twoDevices}, make(chan authz.Revocation)}
		r := rig{t, cache.New(n, cache.Options{}), n.service}
		defer r.Close()
		r.expect(request("a1"), after{0, asked})
		r.expect(request("b1"), after{0, asked})
		fault := make(chan error)
		var got []authz.Revocation
		go func() {
			fault <- r.Notify(t.Context(), func(v authz.Revocation) {
				got = append(got, v)
				if answer := r.ask(request("a1")); answer != askedNo {
					t.Errorf("the cut device is %s", answer)
				}
			})
		}()
		n.set(denyAll)
		n.revocations <- authz.Revocation{Subject: "a"}
		close(n.revocations)
		if err := <-fault; !errors.Is(err, errDown) || len(got) != 1 || got[0].Subject != "a" {
			t.Errorf("Notify = %v after %v", err, got)
		}
		r.expect(request("b1"), after{0, cached})
	})
	t.Run("source is no notifier", func(t *testing.T) {
		bubble(t, cache.Options{}, func(r rig) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
			defer cancel()
			start := time.Now()
			if err := r.Notify(ctx, nil); err != nil || time.Since(start) != time.Minute {
				t.Errorf("Notify = %v after %v", err, time.Since(start))
			}
		})
	})
}
