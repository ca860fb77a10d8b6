package guard_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
)

// TestRepeatsAreFree: a device that repeats a wrong token causes one failure in ten seconds at
// its site, whatever the reason. The same token with another name is another attempt.
func TestRepeatsAreFree(t *testing.T) {
	for name, want := range map[string]string{"guess": "denied", "alone": "unavailable"} {
		synctest.Test(t, func(t *testing.T) {
			g := guard.New(authorizeFunc(byToken), guard.Options{})
			for range 1000 {
				if got := outcome(t, g, request(name, attacker)); got != want {
					t.Fatalf("it is %s", got)
				}
				time.Sleep(99 * time.Millisecond)
			}
			if s := g.Stats(); s.Charged != 10 {
				t.Errorf("%d failures were charged in 99 s", s.Charged)
			}
			r := request(name, attacker)
			charged := g.Stats().Charged
			for i := range 5 {
				r.ClientID = fmt.Sprint(i)
				outcome(t, g, r)
			}
			if s := g.Stats(); s.Charged != charged+5 {
				t.Errorf("%d of five names were charged", s.Charged-charged)
			}
		})
	}
}

// TestKnownPass: a device whose token was granted before and that shares the address of an
// attacker connects, even if its source has to be asked. A token that is no longer valid is
// denied, and has no advantage over others for a while.
func TestKnownPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var withdrawn, asked atomic.Int64
		g := guard.New(authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			asked.Add(1)
			if withdrawn.Load() == 1 {
				return nil, &authz.Denial{Reason: authz.NotAuthorized}
			}
			return byToken(ctx, r)
		}), guard.Options{Rate: 1e-6})
		known := request("good-device", stranger)
		outcome(t, g, known)
		known.Addr = request("", attacker).Addr
		until(t, g, request("guess", attacker), "denied", 20)
		for range 100 {
			if got := outcome(t, g, known); got != "granted" {
				t.Fatalf("a known device is %s", got)
			}
		}
		if got := outcome(t, g, request("good-newcomer", attacker)); got != "throttled" {
			t.Errorf("a token never seen is %s", got)
		}
		withdrawn.Store(1)
		for range 2 {
			if got := outcome(t, g, known); got != "denied" {
				t.Errorf("a withdrawn token is %s", got)
			}
			before := asked.Load()
			for i := range 100 {
				known.ClientID = fmt.Sprint(i)
				if got := outcome(t, g, known); got != "throttled" {
					t.Errorf("a token that was denied just now is %s", got)
				}
			}
			if asked.Load() != before {
				t.Error("the source was asked about it")
			}
			time.Sleep(10 * time.Second)
		}
	})
}

// TestUnguessable: sources that answer from memory grant a long token even if other devices at
// its address have used up the budget. A short token might be a guess.
func TestUnguessable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guard.New(authorizeFunc(byToken), guard.Options{Offline: authorizeFunc(byToken)})
		until(t, g, request("guess", attacker), "denied", 20)
		for token, want := range map[string]string{
			"good-0123456789abcde": "granted", "good-0123456789abcd": "throttled",
			"guess-0123456789abcdef": "throttled", "down-0123456789abcdef": "throttled",
		} {
			if got := outcome(t, g, request(token, attacker)); got != want {
				t.Errorf("%s is %s, want %s", token, got, want)
			}
		}
		if got := outcome(t, g.Before(authorizeFunc(byToken), nil), request("good-0123456789abcde", attacker)); got != "granted" {
			t.Errorf("a Guard of other sources does not know the device: it is %s", got)
		}
		if got := outcome(t, g.Before(authorizeFunc(byToken), nil), request("good-fghijklmnopqrst", attacker)); got != "throttled" {
			t.Errorf("a Guard of other sources has another budget: a device is %s", got)
		}
	})
}

// TestDebtOfFaultsIsBounded: a site whose devices met faults together that turn out to be
// the source's is not blocked for more than two seconds.
func TestDebtOfFaultsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			time.Sleep(100 * time.Millisecond)
			return byToken(ctx, r)
		})
		g := guard.New(slow, guard.Options{})
		for i := range 1000 {
			go func() { _, _ = g.Authorize(t.Context(), request(fmt.Sprint("alone", i), attacker)) }()
		}
		time.Sleep(2100*time.Millisecond + 100*time.Millisecond - time.Nanosecond)
		if got := outcome(t, g, request("good", attacker)); got != "throttled" {
			t.Errorf("a device is %s", got)
		}
		time.Sleep(time.Nanosecond)
		if got := outcome(t, g, request("good", attacker)); got != "granted" {
			t.Errorf("two seconds later a device is %s", got)
		}
	})
}
