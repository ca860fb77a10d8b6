// Package authztest is the conformance suite of [authz.Authorizer] and
// [authz.Notifier]: what a proxy relies on, and what no type can express.
//
// An implementation calls [Run] from one of its tests with requests of which it
// knows the answers:
//
//	func TestConformance(t *testing.T) {
//		authztest.Run(t, authztest.Suite{
//			New:     func(tb testing.TB) authztest.Fixture { ... },
//			Good:    authz.Request{Token: authz.NewToken("a-token-that-is-good")},
//			Unknown: authz.Request{Token: authz.NewToken("nobody-knows-this-one")},
//		})
//	}
//
// The suite checks that every answer is exactly one of a grant and an error;
// that granted, denied and unavailable stay distinct and never turn into one
// another, least of all when a context ends; that no answer mentions a secret;
// that hostile input neither panics nor is let in; that grants never change;
// that concurrent callers get the answers a single one gets; and that
// revocations come one at a time, after the source has stopped granting.
//
// Run it with -race: a data race in an Authorizer is a fault like any other.
// Rules that a [Fixture] gives no means to provoke are logged as not checked.
package authztest

import (
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Suite describes one Authorizer and what it knows. The tokens must be at least
// eight bytes long, so that finding one in a text is no accident.
type Suite struct {
	// New makes a fresh Authorizer whose source is up and knows the requests
	// below. It is called once for each check and cleans up with tb.Cleanup.
	New func(tb testing.TB) Fixture
	// Good is a request that is granted.
	Good authz.Request
	// Unknown is a request with a token that the source does not know.
	Unknown authz.Request
	// Denied holds requests that are refused for the reason they stand under,
	// by Authorize itself or by the Check of the grant it returns.
	Denied map[authz.Reason]authz.Request
}

// Fixture is one Authorizer under test and the ways to upset its source. A nil
// function leaves the rules unchecked that need it.
type Fixture struct {
	Authorizer authz.Authorizer
	// Break takes the source away: no decision can be made any more.
	Break func()
	// Stall makes the source hang until the test's cleanup. The channel is
	// closed when a request has reached the source.
	Stall func() <-chan struct{}
	// Revoke withdraws Good's token at the source, and as many others as it can.
	// The Authorizer must be a Notifier.
	Revoke func()
}

// patience is how long the suite waits for what should come at once.
const patience = 10 * time.Second

// check is one rule of the contract.
type check struct {
	name string
	run  func(tb testing.TB, s Suite)
}

func checks() []check {
	return []check{
		{"Granted", checkGranted},
		{"Unknown", checkUnknown},
		{"Denied", checkDenied},
		{"Unavailable", checkUnavailable},
		{"Exact", checkExact},
		{"Hostile", checkHostile},
		{"Immutable", checkImmutable},
		{"Canceled", checkCanceled},
		{"CanceledInFlight", checkCanceledInFlight},
		{"Concurrent", checkConcurrent},
		{"NotifyEnds", checkNotifyEnds},
		{"NotifyRevokes", checkNotifyRevokes},
	}
}

// Run checks the Authorizer that s describes against the contract, each rule in
// a subtest of its own.
func Run(t *testing.T, s Suite) {
	t.Helper()
	if fault := s.fault(); fault != "" {
		t.Fatal("authztest: " + fault)
	}
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
}

// fault returns what is wrong with the suite itself.
func (s Suite) fault() string {
	if s.New == nil {
		return "Suite.New is missing"
	}
	if len(s.Good.Token.Reveal()) < shortestSecret || len(s.Unknown.Token.Reveal()) < shortestSecret {
		return "Suite.Good and Suite.Unknown need tokens of at least 8 bytes"
	}
	if s.Good.Token.Equal(s.Unknown.Token) {
		return "Suite.Good and Suite.Unknown have the same token"
	}
	for reason, r := range s.Denied {
		if len(r.Token.Reveal()) < shortestSecret {
			return "Suite.Denied: the request for " + string(reason) + " needs a token of at least 8 bytes"
		}
	}
	return ""
}
