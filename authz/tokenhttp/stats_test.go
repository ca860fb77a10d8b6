package tokenhttp

import (
	"net/http"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestStats(t *testing.T) {
	var calls []Call
	answers := []reply{
		okJSON(`{"result":"allow","cache_ttl":0}`), okJSON(`{"result":"deny"}`), okJSON(`{"result":"ignore"}`),
		{status: 500}, {status: 429, header: http.Header{"Retry-After": {"60"}}},
	}
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { answers[len(calls)].ServeHTTP(w, r) })
	s := sourceOf(t, Options{URL: server.URL, OnCall: func(c Call) { calls = append(calls, c) }})
	for range 6 {
		_, _ = s.Authorize(t.Context(), pump())
	}
	_, _ = s.Authorize(t.Context(), authz.Request{Token: authz.NewToken("")})
	want := []Call{
		{Outcome: Allowed, Status: 200, NoStore: true}, {Outcome: Denied, Status: 200}, {Outcome: Ignored, Status: 200},
		{Outcome: Failed, Status: 500}, {Outcome: Busy, Status: 429}, {Outcome: Busy}, {Outcome: Refused},
	}
	var total time.Duration
	for i, c := range calls {
		total += c.Duration
		c.Duration = 0
		if c != want[i] {
			t.Errorf("call %d is %+v, want %+v", i, c, want[i])
		}
	}
	if got := s.Stats(); got != (Stats{Allowed: 1, Denied: 1, Ignored: 1, Failed: 1, Busy: 2, Refused: 1, NoStore: 1, Time: total, Breaker: "closed"}) {
		t.Errorf("Stats = %+v", got)
	}
}
