//go:build integration

package tokenpostgres

import (
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

func TestConformance(t *testing.T) {
	server := harness.StartPostgres(t)
	fixture := func(o Options) func(tb testing.TB) authztest.Fixture {
		return func(tb testing.TB) authztest.Fixture {
			d := newDatabase(tb, server)
			o.Channel = "changes"
			s := d.source(o)
			if err := s.Open(tb.Context(), s.workers); err != nil {
				tb.Fatal(err)
			}
			harness.Eventually(tb, "listening", func() bool { return s.Stats().Listening })
			return authztest.Fixture{Authorizer: s, Break: d.refuse, Stall: d.stall, Revoke: func() {
				d.sql(`UPDATE devices SET disabled = true; NOTIFY changes, '{"subject":"pump-8"}'; NOTIFY changes, '{"subject":"pump-7"}'`)
			}}
		}
	}
	for name, o := range map[string]Options{"prepared": {Query: tokensQuery}, "unprepared": {Query: tokensQuery, Unprepared: true}} {
		t.Run("tokens, "+name, func(t *testing.T) {
			authztest.Run(t, authztest.Suite{
				NamesDevices: true,
				New:          fixture(o),
				Good:         tokenRequest(goodToken),
				Unknown:      tokenRequest("Another-token-altogether"),
				Denied: map[authz.Reason]authz.Request{
					authz.Disabled:      tokenRequest("Good-token-of-disabled"),
					authz.Expired:       tokenRequest("Good-token-of-expired"),
					authz.WrongClientID: tokenRequest("Good-token-of-bound"),
				},
			})
		})
	}
	t.Run("passwords", func(t *testing.T) {
		authztest.Run(t, authztest.Suite{
			NamesDevices: true,
			New:          fixture(Options{Query: usersQuery}),
			Good:         pairRequest("pump-7", goodWord),
			Unknown:      pairRequest("pump-99", goodWord),
			Denied: map[authz.Reason]authz.Request{
				authz.WrongPassword: pairRequest("pump-7", "Another-password"),
				authz.Disabled:      pairRequest("disabled", goodWord),
				authz.Expired:       pairRequest("expired", goodWord),
				authz.WrongClientID: pairRequest("bound", goodWord),
			},
		})
	})
}
