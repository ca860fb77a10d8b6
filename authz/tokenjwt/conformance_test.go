package tokenjwt

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
)

// exchangeable passes requests to the current source. An issuer that is down affects only a
// source that has just started, and not one that has its keys.
type exchangeable struct{ atomic.Pointer[Source] }

func (e *exchangeable) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	return e.Load().Authorize(ctx, r)
}

func fixture(tb testing.TB) authztest.Fixture {
	var e exchangeable
	e.Store(loaded(tb, strict(Keys{}), always(named(tb, "k1", keyring().p256.Public()))))
	begin := func(load loader) {
		o := strict(Keys{})
		o.StartWithoutKeys = true
		e.Store(loaded(tb, o, load))
	}
	return authztest.Fixture{
		Authorizer: &e,
		Break: func() {
			begin(func(context.Context) (document, error) { return document{}, errors.New("connection refused") })
		},
		Stall: func() <-chan struct{} {
			reached := make(chan struct{})
			arrived := sync.OnceFunc(func() { close(reached) })
			begin(func(ctx context.Context) (document, error) {
				arrived()
				<-ctx.Done()
				return document{}, ctx.Err()
			})
			return reached
		},
	}
}

func TestConformance(t *testing.T) {
	k := keyring()
	of := func(changes map[string]any) authz.Request {
		return request(signed(t, jose.ES256, k.p256, "k1", claims(changes)))
	}
	authztest.Run(t, authztest.Suite{
		NamesDevices: true,
		New:          fixture,
		Good:         of(map[string]any{"roles": []string{"device"}}),
		Unknown:      request(signed(t, jose.ES256, k.other, "k1", claims(nil))),
		Denied: map[authz.Reason]authz.Request{
			authz.Expired:       of(map[string]any{"exp": time.Now().Unix() - 1}),
			authz.NotYetValid:   of(map[string]any{"nbf": time.Now().Unix() + 600}),
			authz.NotAuthorized: of(map[string]any{"aud": "somebody-else"}),
		},
	})
}

// TestRotation goes through the life of an issuer's keys with a real server.
func TestRotation(t *testing.T) {
	k := keyring()
	var answer atomic.Pointer[[]byte] // nil: the issuer is down
	var asked atomic.Int32
	publish := func(content []byte) { answer.Store(&content) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		content := answer.Load()
		if content == nil || r.URL.Path != "/jwks" {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(*content)
	}))
	defer server.Close()
	old, fresh := request(signed(t, jose.ES256, k.p256, "k1", claims(nil))), request(signed(t, jose.ES256, k.other, "k2", claims(nil)))

	o := strict(Keys{URL: server.URL + "/jwks"})
	if s, err := Open(t.Context(), o); err == nil {
		s.Close()
		t.Fatal("Open does without keys")
	}
	publish(named(t, "k1", k.p256.Public()))
	s := opened(t, o)
	expect := func(when string, wantOld, wantFresh string) {
		t.Helper()
		if got := outcome(t, s, old); got != wantOld {
			t.Errorf("%s the old token is %s, want %s", when, got, wantOld)
		}
		if got := outcome(t, s, fresh); got != wantFresh {
			t.Errorf("%s the new token is %s, want %s", when, got, wantFresh)
		}
	}
	before := asked.Load()
	expect("before the rotation", "granted", "unavailable") // the key may be a newer one
	if asked.Load() != before {
		t.Error("the issuer was asked again at once")
	}
	answer.Store(nil)
	if err := s.Reload(t.Context()); err == nil {
		t.Error("Reload says nothing of the outage")
	}
	expect("during the outage", "granted", "unavailable")
	publish(jwks(t, jwk(t, k.p256.Public(), map[string]any{"kid": "k1"}), jwk(t, k.other.Public(), map[string]any{"kid": "k2"})))
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	expect("with both keys", "granted", "granted")
	publish(named(t, "k2", k.other.Public()))
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	expect("after the rotation", "unknown_token", "granted")
	if st := s.Stats(); st.Keys != 1 || st.Changed != 3 || st.Failed != 1 || st.Err != nil || st.LastSuccess.IsZero() {
		t.Errorf("Stats = %+v", st)
	}
}
