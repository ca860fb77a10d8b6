package guard_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
)

// upset is byToken with faults: it can be broken or stalled, and can revoke valid tokens.
type upset struct {
	broken, stalled, revoked atomic.Bool
	reached                  chan struct{}
	revocations              chan authz.Revocation
}

func (u *upset) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case u.stalled.Load():
		u.reached <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	case u.broken.Load():
		return nil, errDown
	case r.Token.Reveal() != "good-token-of-pump-7" && r.Token.Reveal() != "off-token-of-pump-8" || u.revoked.Load():
		return nil, authz.ErrUnknown
	}
	return byToken(ctx, r)
}

func (u *upset) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-u.revocations:
			revoked(r)
		}
	}
}

func TestConformance(t *testing.T) {
	all := wrappers()
	all["both, and the cache"] = nil
	good, unknown, off := request("good-token-of-pump-7", ""), request("nobody-knows-this", ""), request("off-token-of-pump-8", "")
	for name, wrap := range all {
		t.Run(name, func(t *testing.T) {
			authztest.Run(t, authztest.Suite{
				New: func(tb testing.TB) authztest.Fixture {
					u := &upset{reached: make(chan struct{}, 1), revocations: make(chan authz.Revocation, 1)}
					reached := make(chan struct{})
					var a authz.Authorizer
					if wrap != nil {
						a = wrap(u)
					} else {
						c := cache.New(u, cache.Options{})
						tb.Cleanup(c.Close)
						a = guard.New(guard.NewPrecheck(c, guard.Format{MinLength: 8}), guard.Options{})
					}
					return authztest.Fixture{
						Authorizer: a,
						Break:      func() { u.broken.Store(true) },
						Stall: func() <-chan struct{} {
							u.stalled.Store(true)
							go func() { <-u.reached; close(reached) }()
							return reached
						},
						Revoke: func() {
							u.revoked.Store(true)
							u.revocations <- authz.Revocation{TokenHash: good.Token.Hash()}
						},
					}
				},
				Good:    good,
				Unknown: unknown,
				Denied:  map[authz.Reason]authz.Request{authz.Disabled: off},
			})
		})
	}
}
