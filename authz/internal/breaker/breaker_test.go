package breaker

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestNoMoreThanRemembered: the number of stored addresses and keys is bounded.
func TestNoMoreThanRemembered(t *testing.T) {
	b, now := New(time.Second), time.Now()
	for i := range 3 * maxRemembered {
		r := authz.Request{Token: authz.NewToken(fmt.Sprint(i)), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)}
		q := QuestionOf(&r, 0)
		b.Record(q, Report{Verdict: Throttled, Err: ErrPaused, After: time.Minute})
		b.Record(q, Report{Verdict: Failing, Err: ErrPaused})
		_, _ = b.admit(q, now)
	}
	if b.each.Len() != maxRemembered || b.keys.Len() != maxRemembered {
		t.Errorf("%d addresses and %d keys are remembered, want %d", b.each.Len(), b.keys.Len(), maxRemembered)
	}
}

// TestQuestionsDiffer: the key contains the data that is sent to the service, and nothing else.
func TestQuestionsDiffer(t *testing.T) {
	base := authz.Request{Token: authz.NewToken("t"), ClientID: "c", Username: "u", Password: authz.NewToken("p")}
	base.Pair = authz.Pair{ClientID: "c", Username: "u", Password: authz.NewToken("p")}
	all := authz.PartClientID | authz.PartUsername | authz.PartPassword
	for name, tc := range map[string]struct {
		change func(r *authz.Request)
		part   authz.Parts
	}{
		"token":        {func(r *authz.Request) { r.Token = authz.NewToken("o") }, 0},
		"client id":    {func(r *authz.Request) { r.ClientID = "o" }, authz.PartClientID},
		"user name":    {func(r *authz.Request) { r.Username = "o" }, authz.PartUsername},
		"password":     {func(r *authz.Request) { r.Password = authz.NewToken("o") }, authz.PartPassword},
		"another pair": {func(r *authz.Request) { r.Pair.Password = authz.NewToken("o") }, 0},
		"no pair":      {func(r *authz.Request) { r.Pair = authz.Pair{} }, 0},
		"shifted":      {func(r *authz.Request) { r.ClientID, r.Username = "cu", "" }, authz.PartClientID},
	} {
		other := base
		tc.change(&other)
		if QuestionOf(&base, all).key == QuestionOf(&other, all).key {
			t.Errorf("%s: the keys are equal", name)
		}
		if tc.part != 0 && name != "shifted" && QuestionOf(&base, all&^tc.part).key != QuestionOf(&other, all&^tc.part).key {
			t.Errorf("%s: the keys differ in what is not shown", name)
		}
	}
}
