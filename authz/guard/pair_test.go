package guard_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
)

// login is a pair of which the user name is taken for the token.
func login(user, password, from string) authz.Request {
	r := request(user, from)
	r.Pair = authz.Pair{Username: user, Password: authz.NewToken(password)}
	return r
}

// pairs is a source of pairs that counts how often it is asked.
type pairs struct{ asked int }

func (p *pairs) Takes() authz.Credentials { return authz.Pairs }

func (p *pairs) Authorize(_ context.Context, r authz.Request) (*authz.Grant, error) {
	p.asked++
	if r.Pair.Password.Reveal() != "good" {
		return nil, &authz.Denial{Reason: authz.WrongPassword}
	}
	return &authz.Grant{TokenID: r.Pair.Username, Subject: r.Pair.Username, PairHash: authz.PairHash(r.Pair.Username, "")}, nil
}

// TestPasswordsAreNotGuessedBeyondTheBudget: neither with a user name that is long or was
// granted before, nor with a password that another user has. Known devices come in.
func TestPasswordsAreNotGuessedBeyondTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const user = "a-user-name-of-more-than-twenty-bytes"
		source := &pairs{}
		all := authz.Chain{source}
		g := guard.New(all, guard.Options{Rate: 1e-6, Offline: all})
		if authz.Takes(g) != authz.Pairs {
			t.Error("the guard hides what the source takes")
		}
		if got := outcome(t, g, login(user, "good", stranger)); got != "granted" {
			t.Fatal(got)
		}
		n := 0
		for outcome(t, g, login(user, fmt.Sprint("guess-", n), attacker)) == "denied" {
			n++
		}
		if n > 21 {
			t.Errorf("%d guesses from one address", n)
		}
		before := source.asked
		for i := range 100 {
			if got := outcome(t, g, login(user, fmt.Sprint("more-", i), attacker)); got != "throttled" {
				t.Fatalf("a further guess is %s", got)
			}
		}
		if got := outcome(t, g, login("another-user-of-the-same-password", "good", attacker)); got != "throttled" {
			t.Errorf("a user never seen with a known password is %s", got)
		}
		if source.asked != before {
			t.Errorf("%d questions beyond the budget", source.asked-before)
		}
		if got := outcome(t, g, login(user, "good", attacker)); got != "granted" {
			t.Errorf("the known device is %s", got)
		}
	})
}

// TestFormatIsNotThatOfPairs: a check of the form of tokens lets pairs pass.
func TestFormatIsNotThatOfPairs(t *testing.T) {
	p := guard.NewPrecheck(&pairs{}, guard.Format{MinLength: 10, Prefixes: []string{"map_"}})
	r := authz.Request{Pair: authz.Pair{Username: "u", Password: authz.NewToken("good")}}
	if _, err := p.Authorize(t.Context(), r); err != nil {
		t.Error(err)
	}
	if _, err := p.Authorize(t.Context(), authz.Request{}); err == nil || authz.Takes(p) != authz.Pairs {
		t.Error("nothing at all passes, or the check hides what the source takes")
	}
}
