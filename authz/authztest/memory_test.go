package authztest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
)

// memory is an Authorizer that follows the contract.
type memory struct {
	mu       sync.Mutex
	grants   map[[32]byte]*authz.Grant
	disabled map[[32]byte]bool
	broken   bool
	stalled  bool
	reached  chan struct{} // closed when a request has met a stalled source
	release  chan struct{} // closed at the end of the test
	arrived  sync.Once
	revoked  chan authz.Revocation
}

func (m *memory) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	broken, stalled := m.broken, m.stalled
	grant, off := m.grants[r.Token.Hash()], m.disabled[r.Token.Hash()]
	m.mu.Unlock()
	switch {
	case stalled:
		m.arrived.Do(func() { close(m.reached) })
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.release:
			return nil, authz.ErrUnavailable
		}
	case broken:
		return nil, errors.New("dial tcp: connection refused")
	case grant == nil:
		return nil, &authz.Denial{Reason: authz.Unknown}
	case off:
		return nil, &authz.Denial{Reason: authz.Disabled, Subject: grant.Subject}
	}
	return grant, nil
}

func (m *memory) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-m.revoked:
			revoked(r)
		}
	}
}

func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func request(token string) authz.Request { return authz.Request{Token: authz.NewToken(token)} }

// suite returns the suite for memory, with wrap around it.
func suite(wrap func(*memory) authz.Authorizer) authztest.Suite {
	good, off, old := request("Good-token-of-pump-7"), request("disabled-token-of-pump-8"), request("expired-token-of-pump-9")
	return authztest.Suite{
		New: func(tb testing.TB) authztest.Fixture {
			m := &memory{
				grants: map[[32]byte]*authz.Grant{
					good.Token.Hash(): {TokenID: "pump-7-a", Subject: "pump-7", Attrs: map[string]string{"site": "north"}},
					off.Token.Hash():  {TokenID: "pump-8-a", Subject: "pump-8"},
					old.Token.Hash():  {TokenID: "pump-9-a", Subject: "pump-9", Expires: time.Now().Add(-time.Hour)},
				},
				disabled: map[[32]byte]bool{off.Token.Hash(): true},
				reached:  make(chan struct{}),
				release:  make(chan struct{}),
				revoked:  make(chan authz.Revocation, 2),
			}
			tb.Cleanup(func() { close(m.release) })
			return authztest.Fixture{
				Authorizer: wrap(m),
				Break:      func() { m.set(func() { m.broken = true }) },
				Stall: func() <-chan struct{} {
					m.set(func() { m.stalled = true })
					return m.reached
				},
				Revoke: func() {
					m.set(func() { m.disabled[good.Token.Hash()] = true })
					m.revoked <- authz.Revocation{TokenID: "pump-9-a"}
					m.revoked <- authz.Revocation{TokenID: "pump-7-a"}
				},
			}
		},
		Good:    good,
		Unknown: request("nobody-knows-this-token"),
		Denied:  map[authz.Reason]authz.Request{authz.Disabled: off, authz.Expired: old},

		NamesDevices: true,
	}
}

func TestConformance(t *testing.T) {
	authztest.Run(t, suite(func(m *memory) authz.Authorizer { return m }))
}

// TestConformanceOfChain checks the root package's own Authorizer, too.
func TestConformanceOfChain(t *testing.T) {
	authztest.Run(t, suite(func(m *memory) authz.Authorizer { return authz.Chain{authz.Chain{}, m} }))
}

// TestBareAuthorizer runs a suite without any means to disturb the source.
func TestBareAuthorizer(t *testing.T) {
	s := suite(func(m *memory) authz.Authorizer { return struct{ authz.Authorizer }{m} })
	upset := s.New
	s.New = func(tb testing.TB) authztest.Fixture {
		return authztest.Fixture{Authorizer: upset(tb).Authorizer}
	}
	s.Denied = nil
	authztest.Run(t, s)
}

func ExampleRun() {
	good := authz.Request{Token: authz.NewToken("a-token-that-is-good")}
	_ = func(t *testing.T) { // TestConformance of your package
		authztest.Run(t, authztest.Suite{
			New: func(testing.TB) authztest.Fixture {
				return authztest.Fixture{Authorizer: &memory{
					grants: map[[32]byte]*authz.Grant{good.Token.Hash(): {TokenID: "a"}},
				}}
			},
			Good:    good,
			Unknown: authz.Request{Token: authz.NewToken("nobody-knows-this-one")},
		})
	}
}
