package authz_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// taker notes what it is asked about.
type taker struct {
	takes authz.Credentials
	asked []authz.Request
}

func (t *taker) Takes() authz.Credentials { return t.takes }

func (t *taker) Authorize(_ context.Context, r authz.Request) (*authz.Grant, error) {
	t.asked = append(t.asked, r)
	return nil, authz.ErrUnknown
}

// TestSourcesSeeWhatTheyTake: a source of tokens sees no pair, a source of pairs no token, and
// neither is asked about a device that has not sent what it takes.
func TestSourcesSeeWhatTheyTake(t *testing.T) {
	token := authz.NewToken("a-token")
	pair := authz.Pair{Username: "pump-7", Password: authz.NewToken("a-password")}
	for name, tc := range map[string]struct {
		request              authz.Request
		tokens, pairs, boths bool // asked
	}{
		"both":               {authz.Request{Token: token, Pair: pair}, true, true, true},
		"a token":            {authz.Request{Token: token}, true, false, true},
		"a pair":             {authz.Request{Pair: pair}, false, true, true},
		"half a pair":        {authz.Request{Token: token, Pair: authz.Pair{Username: "pump-7"}}, true, false, true},
		"the other half":     {authz.Request{Token: token, Pair: authz.Pair{Password: token}}, true, false, true},
		"an empty password":  {authz.Request{Token: token, Pair: authz.Pair{Username: "u", Password: authz.NewToken("")}}, true, false, true},
		"pair of client id":  {authz.Request{Pair: authz.Pair{ClientID: "pump-7", Password: token}}, false, true, true},
		"nothing to look at": {authz.Request{Username: "pump-7"}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			tokens, pairs, boths := &taker{takes: authz.Tokens}, &taker{takes: authz.Pairs}, &taker{takes: authz.Tokens | authz.Pairs}
			chain := authz.Chain{tokens, authz.Chain{pairs}, boths}
			if authz.Takes(chain) != authz.Tokens|authz.Pairs || authz.Takes(chain[:1]) != authz.Tokens || authz.Takes(answer{}) != authz.Tokens {
				t.Error("the chain does not take what its sources take")
			}
			if _, err := chain.Authorize(t.Context(), tc.request); !errors.Is(err, authz.ErrUnknown) {
				t.Errorf("%v", err)
			}
			for _, s := range []struct {
				name string
				*taker
				want bool
			}{{"tokens", tokens, tc.tokens}, {"pairs", pairs, tc.pairs}, {"both", boths, tc.boths}} {
				if (len(s.asked) == 1) != s.want {
					t.Errorf("the source of %s was asked %d times", s.name, len(s.asked))
				}
				for _, r := range s.asked {
					if s.takes&authz.Tokens == 0 && !r.Token.IsZero() || s.takes&authz.Pairs == 0 && r.Pair != (authz.Pair{}) {
						t.Errorf("the source of %s sees more than it takes", s.name)
					}
				}
			}
		})
	}
}

// TestWrongPasswordEndsTheSearch: a later source may know the same user name by another
// password.
func TestWrongPasswordEndsTheSearch(t *testing.T) {
	wrong := &authz.Denial{Reason: authz.WrongPassword}
	if errors.Is(wrong, authz.ErrUnknown) || !errors.Is(wrong, authz.ErrDenied) {
		t.Error("a wrong password is not a denial of a known device")
	}
	later := &taker{takes: authz.Tokens}
	_, err := authz.Chain{answer{err: wrong}, later}.Authorize(t.Context(), authz.Request{Token: authz.NewToken("t")})
	if !errors.Is(err, wrong) || len(later.asked) != 0 {
		t.Errorf("%v, and the next source was asked %d times", err, len(later.asked))
	}
}

// TestGrantOfAPairIsCheckedAgainstThePair: its conditions are about what the device sent,
// whatever of it the configuration takes for the token.
func TestGrantOfAPairIsCheckedAgainstThePair(t *testing.T) {
	g := &authz.Grant{PairHash: authz.PairHash("pump-7", "stored"), Only: authz.Conditions{ClientIDs: []string{"c"}, Usernames: []string{"pump-7"}}}
	r := authz.Request{Token: authz.NewToken("pump-7"), Pair: authz.Pair{ClientID: "c", Username: "pump-7", Password: authz.NewToken("x")}}
	if err := g.Check(r, time.Now()); err != nil {
		t.Error(err)
	}
	r.ClientID, r.Username, r.Pair.ClientID = "c", "pump-7", "d"
	if err := g.Check(r, time.Now()); err == nil || !strings.Contains(err.Error(), "user name is bound to other client ids") {
		t.Errorf("another client id: %v", err)
	}
}

func TestPairHash(t *testing.T) {
	seen := map[[32]byte]bool{}
	for _, p := range [][2]string{{"a", "b"}, {"b", "a"}, {"ab", ""}, {"", "ab"}, {"a", "c"}} {
		seen[authz.PairHash(p[0], p[1])] = true
	}
	if len(seen) != 5 {
		t.Error("two pairs have one hash")
	}
}

func TestPairPrintsNoPassword(t *testing.T) {
	r := authz.Request{Pair: authz.Pair{Username: "u", Password: authz.NewToken("a-password")}}
	if text := fmt.Sprintf("%v %+v %#v", r, r, r); strings.Contains(text, "a-password") {
		t.Error(text)
	}
}
