package cache_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

// fixture is a Notifier with every fault that the suite asks for.
func fixture(tb testing.TB, o cache.Options) authztest.Fixture {
	var disabled, stalled sync.Map
	reached := make(chan struct{})
	arrived := sync.OnceFunc(func() { close(reached) })
	answer := registry(map[string]authz.Grant{
		"Good-token-of-pump-7":     {TokenID: "pump-7-a", Subject: "pump-7", Attrs: map[string]string{"site": "north"}},
		"expired-token-of-pump-9":  {TokenID: "pump-9-a", Expires: time.Now().Add(-time.Hour)},
		"bound-token-of-pump-10":   {TokenID: "pump-10-a", Only: authz.Conditions{ClientIDs: []string{"pump-10"}}},
		"disabled-token-of-pump-8": {TokenID: "pump-8-a"},
	})
	disabled.Store("disabled-token-of-pump-8", true)
	n := notifier{&service{}, make(chan authz.Revocation, 2)}
	n.set(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
		if _, ok := stalled.Load(true); ok {
			arrived()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if _, ok := disabled.Load(r.Token.Reveal()); ok {
			return nil, &authz.Denial{Reason: authz.Disabled}
		}
		return answer(ctx, r)
	})
	c := cache.New(n, o)
	tb.Cleanup(c.Close)
	return authztest.Fixture{
		Authorizer: c,
		Break:      func() { n.set(down) },
		Stall:      func() <-chan struct{} { stalled.Store(true, true); return reached },
		Revoke: func() {
			disabled.Store("Good-token-of-pump-7", true)
			n.revocations <- authz.Revocation{TokenID: "pump-9-a"}
			n.revocations <- authz.Revocation{TokenID: "pump-7-a"}
		},
	}
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]cache.Options{
		"token alone":   {},
		"whole request": {Vary: cache.ClientID | cache.Username | cache.Password | cache.Addr | cache.Listener | cache.Certificate | cache.Protocol},
		"nothing kept":  {TTL: -1, NegativeTTL: -1, Stale: -1},
	} {
		t.Run(name, func(t *testing.T) {
			authztest.Run(t, authztest.Suite{
				New:     func(tb testing.TB) authztest.Fixture { return fixture(tb, o) },
				Good:    request("Good-token-of-pump-7"),
				Unknown: request("nobody-knows-this-token"),
				Denied: map[authz.Reason]authz.Request{
					authz.Disabled:      request("disabled-token-of-pump-8"),
					authz.Expired:       request("expired-token-of-pump-9"),
					authz.WrongClientID: request("bound-token-of-pump-10"),
				},
			})
		})
	}
}
