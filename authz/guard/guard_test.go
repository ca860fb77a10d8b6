package guard_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
)

// authorizeFunc is an Authorizer made of one function.
type authorizeFunc func(ctx context.Context, r authz.Request) (*authz.Grant, error)

func (f authorizeFunc) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	return f(ctx, r)
}

var errDown = errors.New("connection refused")

// byToken grants tokens that begin with "good", is unavailable for "down", unanswerable for
// "alone", unsure about "unsure", and denies the rest.
func byToken(_ context.Context, r authz.Request) (*authz.Grant, error) {
	switch text := r.Token.Reveal(); {
	case len(text) >= 4 && text[:4] == "good":
		return &authz.Grant{TokenID: r.Token.Fingerprint(), Subject: r.Token.Fingerprint()}, nil
	case len(text) >= 4 && text[:4] == "down":
		return nil, errDown
	case strings.HasPrefix(text, "alone"):
		return nil, authz.ErrUnanswerable
	case strings.HasPrefix(text, "unsure"):
		return nil, authz.ErrUnsure
	case len(text) >= 3 && text[:3] == "off":
		return nil, &authz.Denial{Reason: authz.Disabled}
	}
	return nil, fmt.Errorf("service: %w", &authz.Denial{Reason: authz.Unknown})
}

func request(token, addr string) authz.Request {
	r := authz.Request{Token: authz.NewToken(token)}
	if addr != "" {
		r.Addr = netip.AddrPortFrom(netip.MustParseAddr(addr), 50000)
	}
	return r
}

// outcome sends r to a and describes the answer.
func outcome(t *testing.T, a authz.Authorizer, r authz.Request) string {
	t.Helper()
	g, err := a.Authorize(t.Context(), r)
	switch {
	case (g == nil) == (err == nil):
		t.Fatalf("Authorize = %v, %v", g, err)
	case err == nil:
		return "granted"
	case errors.Is(err, authz.ErrThrottled) && !errors.Is(err, authz.ErrDenied) && errors.Is(err, authz.ErrUnavailable):
		return "throttled"
	case errors.Is(err, authz.ErrDenied):
		return "denied"
	case errors.Is(err, errDown), errors.Is(err, authz.ErrUnanswerable), errors.Is(err, authz.ErrUnsure):
		return "unavailable"
	}
	return err.Error()
}

// serial makes every token of until different.
var serial atomic.Int64

// until counts how many tokens that begin like that of r get the answer want in a row, up to
// limit.
func until(t *testing.T, a authz.Authorizer, r authz.Request, want string, limit int) int {
	t.Helper()
	text := r.Token.Reveal()
	for n := range limit {
		r.Token = authz.NewToken(fmt.Sprint(text, serial.Add(1)))
		if got := outcome(t, a, r); got != want {
			return n
		}
	}
	return limit
}

const (
	attacker = "192.0.2.1"
	stranger = "192.0.2.2"
)

func TestBudget(t *testing.T) {
	for name, tc := range map[string]struct {
		options guard.Options
		steps   [][2]int // seconds slept, then denials until throttled
	}{
		"default":  {guard.Options{}, [][2]int{{0, 20}, {0, 0}, {1, 10}, {1, 10}, {2, 20}, {3600, 20}}},
		"set":      {guard.Options{Rate: 0.5, Burst: 3}, [][2]int{{0, 3}, {1, 0}, {1, 1}, {5, 2}, {1, 1}, {60, 3}}},
		"negative": {guard.Options{Rate: -1, Burst: -1, Addresses: -1}, [][2]int{{0, 20}, {1, 10}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := guard.New(authorizeFunc(byToken), tc.options)
				charged := 0
				for i, step := range tc.steps {
					time.Sleep(time.Duration(step[0]) * time.Second)
					if n := until(t, g, request("guess", attacker), "denied", 100); n != step[1] {
						t.Errorf("step %d: %d denials, want %d", i, n, step[1])
					}
					charged += step[1]
				}
				if s := g.Stats(); s.Charged != uint64(charged) || s.Throttled != uint64(len(tc.steps)) || s.Addresses != 1 {
					t.Errorf("%+v, want %d charged and %d throttled", s, charged, len(tc.steps))
				}
			})
		})
	}
}

// TestOnlyDenialsOfConnectsUseTheBudget: grants, outages, refreshes and rechecks do not.
func TestOnlyDenialsOfConnectsUseTheBudget(t *testing.T) {
	as := func(p authz.Purpose, token string) authz.Request {
		r := request(token, attacker)
		r.Purpose = p
		return r
	}
	for name, tc := range map[string]struct {
		request authz.Request
		want    string
		costs   bool
	}{
		"unknown":        {as(authz.Connect, "guess"), "denied", true},
		"disabled":       {as(authz.Connect, "off"), "denied", true},
		"granted":        {as(authz.Connect, "good"), "granted", false},
		"unavailable":    {as(authz.Connect, "down"), "unavailable", false},
		"unanswerable":   {as(authz.Connect, "alone"), "unavailable", true},
		"unsure":         {as(authz.Connect, "unsure"), "unavailable", true},
		"refresh":        {as(authz.Refresh, "off"), "denied", false},
		"recheck":        {as(authz.Recheck, "off"), "denied", false},
		"without an IP":  {request("guess", ""), "denied", false},
		"exempt":         {request("guess", "10.1.2.3"), "denied", false},
		"exempt, mapped": {request("guess", "::ffff:10.1.2.3"), "denied", false},
		"exempt v6":      {request("guess", "2001:db8::1"), "denied", false},
		"exempt zone":    {request("guess", "fe80::1%eth0"), "denied", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := guard.New(authorizeFunc(byToken), guard.Options{Exempt: []netip.Prefix{
					netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("fe80::/10"),
				}})
				want := 1000
				if tc.costs {
					want = 20
				}
				if n := until(t, g, tc.request, tc.want, 1000); n != want {
					t.Errorf("%s %d times, want %d", tc.want, n, want)
				}
				if s := g.Stats(); (s.Charged > 0) != tc.costs || (s.Addresses > 0) != tc.costs {
					t.Errorf("%+v", s)
				}
				// A budget that is used up stops all devices that share it.
				throttled := outcome(t, g, as(authz.Connect, "good")) == "throttled"
				if throttled != tc.costs {
					t.Errorf("afterwards a good token is throttled: %v", throttled)
				}
			})
		})
	}
}

func TestNetworks(t *testing.T) {
	for _, tc := range []struct {
		a, b   string
		shared bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.0", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		{"2001:db8:0:1::1", "2001:db8:0:1:ffff::9", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"::1", "::2", true},
		{"0.0.0.0", "::", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := guard.New(authorizeFunc(byToken), guard.Options{})
			until(t, g, request("guess", tc.a), "denied", 20)
			if got := outcome(t, g, request("guess", tc.b)); (got == "throttled") != tc.shared {
				t.Errorf("after %s used its budget up, %s is %s", tc.a, tc.b, got)
			}
		})
	}
}

// TestManyAddresses: the number of stored addresses is bounded.
func TestManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guard.New(authorizeFunc(byToken), guard.Options{Addresses: 10})
		until(t, g, request("guess", attacker), "denied", 20)
		for i := range 9 {
			outcome(t, g, request("guess", fmt.Sprint("198.51.100.", i)))
			outcome(t, g, request(fmt.Sprint("good", i), fmt.Sprint("203.0.113.", i))) // takes no room
		}
		if got := outcome(t, g, request("guess", attacker)); got != "throttled" || g.Stats().Addresses != 10 {
			t.Errorf("with ten addresses the first is %s: %+v", got, g.Stats())
		}
		outcome(t, g, request("guess", "198.51.100.9"))
		if got := outcome(t, g, request("guess", attacker)); got != "denied" || g.Stats().Addresses != 10 {
			t.Errorf("with eleven the first is %s: %+v", got, g.Stats())
		}
	})
}

// TestConcurrentRequestsOfAnAddress: all requests that are in progress at the same time are accepted.
func TestConcurrentRequestsOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			time.Sleep(100 * time.Millisecond)
			return byToken(ctx, r)
		})
		g := guard.New(slow, guard.Options{})
		together := func(token string, n int) map[string]int {
			got := make(chan string, n)
			for i := range n {
				go func() { got <- outcome(t, g, request(fmt.Sprint(token, i), attacker)) }()
			}
			counts := make(map[string]int)
			for range n {
				counts[<-got]++
			}
			return counts
		}
		if got := together("good", 200); got["granted"] != 200 {
			t.Errorf("a site that comes back at once: %v", got)
		}
		if got := together("guess", 50); got["denied"] != 50 {
			t.Errorf("guesses at once: %v", got)
		}
		// The 30 failures over the budget are paid off first: 3.1 s until the next request.
		time.Sleep(3*time.Second + 99*time.Millisecond)
		if got := outcome(t, g, request("guess", attacker)); got != "throttled" {
			t.Errorf("before the debt is paid, one more is %s", got)
		}
		time.Sleep(time.Millisecond)
		if got := outcome(t, g, request("guess", attacker)); got != "denied" {
			t.Errorf("when the debt is paid, one more is %s", got)
		}
		if got := outcome(t, g, request("good", stranger)); got != "granted" {
			t.Errorf("another address is %s", got)
		}
	})
}

// notifier is a source that reports one revocation.
type notifier struct{ authorizeFunc }

func (notifier) Notify(_ context.Context, revoked func(authz.Revocation)) error {
	revoked(authz.Revocation{Subject: "pump-7"})
	return errDown
}

func TestNotify(t *testing.T) {
	for name, wrap := range wrappers() {
		t.Run(name, func(t *testing.T) {
			var got []authz.Revocation
			n := wrap(notifier{byToken}).(authz.Notifier)
			err := n.Notify(t.Context(), func(r authz.Revocation) { got = append(got, r) })
			if !errors.Is(err, errDown) || len(got) != 1 || got[0].Subject != "pump-7" {
				t.Errorf("Notify = %v after %v", err, got)
			}
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				n := wrap(authorizeFunc(byToken)).(authz.Notifier)
				if err := n.Notify(ctx, nil); err != nil || time.Since(start) != time.Second {
					t.Errorf("Notify = %v after %v", err, time.Since(start))
				}
			})
		})
	}
}

// wrappers are this package's Authorizers for another one.
func wrappers() map[string]func(authz.Authorizer) authz.Authorizer {
	return map[string]func(authz.Authorizer) authz.Authorizer{
		"Guard":    func(a authz.Authorizer) authz.Authorizer { return guard.New(a, guard.Options{}) },
		"Precheck": func(a authz.Authorizer) authz.Authorizer { return guard.NewPrecheck(a, guard.Format{MinLength: 8}) },
	}
}
