package authztest

import (
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Suite describes one Authorizer and the credentials it knows. The requests have tokens, or
// pairs and no tokens if that is what the Authorizer takes ([authz.Taker]). Tokens and passwords
// must be at least eight bytes long, so that one found in a text is there on purpose.
type Suite struct {
	// New makes a new Authorizer whose source is up and knows the requests below. It is called
	// once for each check and cleans up with tb.Cleanup.
	New func(tb testing.TB) Fixture
	// Good is a request that is granted.
	Good authz.Request
	// Unknown is a request with a token, or a user name, that the source does not know.
	Unknown authz.Request
	// Denied has requests that are refused for the reason that is their key, by Authorize
	// itself or by the Check of the grant it returns.
	Denied map[authz.Reason]authz.Request
	// NamesDevices says that these denials name the device, except [authz.NotAuthorized], as those
	// of a source that knows its devices should.
	NamesDevices bool
}

// Fixture is one Authorizer under test with the ways to disturb its source. If a function is
// nil, the rules that need it are not checked.
type Fixture struct {
	Authorizer authz.Authorizer
	// Break takes the source down: it can make no more decisions.
	Break func()
	// Stall makes the source hang until the test's cleanup. The channel is closed when a
	// request has reached the source.
	Stall func() <-chan struct{}
	// Revoke withdraws Good's token at the source, and as many others as it can.
	// The Authorizer must be a Notifier.
	Revoke func()
}

// patience is how long the suite waits for an event that should happen at once.
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

// Run checks the Authorizer that s describes against the contract, each rule in a subtest.
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
	if len(secretOf(s.Good).Reveal()) < shortestSecret || len(secretOf(s.Unknown).Reveal()) < shortestSecret {
		return "Suite.Good and Suite.Unknown need tokens, or passwords, of at least 8 bytes"
	}
	if s.Good.Token.Equal(s.Unknown.Token) && s.Good.Pair.Username == s.Unknown.Pair.Username {
		return "Suite.Good and Suite.Unknown have the same token or user name"
	}
	for reason, r := range s.Denied {
		if len(secretOf(r).Reveal()) < shortestSecret {
			return "Suite.Denied: the request for " + string(reason) + " needs a token, or a password, of at least 8 bytes"
		}
	}
	return ""
}

// secretOf returns the token of r, or the password if it has no token.
func secretOf(r authz.Request) authz.Token {
	if r.Token.IsZero() {
		return r.Pair.Password
	}
	return r.Token
}

// withSecret returns r with another token, or password if it has no token.
func withSecret(r authz.Request, text string) authz.Request {
	if r.Token.IsZero() && !r.Pair.IsZero() {
		r.Pair.Password = authz.NewToken(text)
		return r
	}
	r.Token = authz.NewToken(text)
	return r
}
