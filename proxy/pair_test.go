package proxy

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

const pairPassword = "correct horse"

// knowsPairs knows tokens as knowsGood does, and every user of the one password.
type knowsPairs struct{ changed atomic.Bool }

func (k *knowsPairs) Takes() authz.Credentials { return authz.Tokens | authz.Pairs }

func (k *knowsPairs) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if !r.Token.IsZero() {
		if g, err := knowsGood(ctx, r); err == nil {
			return g, nil
		}
	}
	switch {
	case r.Pair.IsZero() || r.Pair.Username == "nobody":
		return nil, authz.ErrUnknown
	case r.Pair.Password.Reveal() != pairPassword, k.changed.Load():
		return nil, &authz.Denial{Reason: authz.WrongPassword}
	}
	u := r.Pair.Username
	return &authz.Grant{TokenID: "id-" + u, Subject: u, PairHash: authz.PairHash(u, "stored")}, nil
}

// pairLogin is a CONNECT with a user name and a password.
func pairLogin(level byte, clientID, user, password string) packets.Connect {
	p := with(level, clientID, user)
	p.HasPassword, p.Password = true, password
	return p
}

func newPairBench(t *testing.T, from ...TokenLocation) *bench {
	b := newBench(t)
	b.policy.Authorizer, b.policy.Token = &knowsPairs{}, from
	b.policy.Rewrite = func(r *ConnectRequest) error {
		if r.Client.Grant.IsPair() && !r.Token.IsZero() {
			t.Error("a client that is known by its pair has a token")
		}
		r.Out.Username, r.Out.HasUsername = r.Username, true
		return nil
	}
	return b
}

// TestPairIsAnIdentity: wherever tokens are, a client that has none there comes in by its
// user name and password, and its client id and user name are its own.
func TestPairIsAnIdentity(t *testing.T) {
	for _, from := range []TokenLocation{{}, {place: password}, {place: clientID}, {place: userProperty, name: "token"}, {place: certificate}} {
		for _, level := range []byte{3, 4, 5} {
			t.Run(fmt.Sprint(from, level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newPairBench(t, from)
					b.mustLogin(pairLogin(level, "pump-7", "pump-7", pairPassword))
					if out := b.broker.lastConnect(); out.ClientID != "pump-7" || out.Username != "pump-7" || out.HasPassword {
						t.Errorf("the broker got client id %q, user name %q, password %v", out.ClientID, out.Username, out.HasPassword)
					}
					for c := range b.srv.Clients() {
						want := authz.PairHash("pump-7", "stored")
						if c.ClientID != "pump-7" || c.Subject() != "pump-7" || c.TokenHash != want || c.Fingerprint() != authz.FingerprintOf(want) {
							t.Errorf("%+v", c)
						}
					}
				})
			})
		}
	}
}

// TestTokensWorkNextToPairs: what is at the location of the token and is one stays one.
func TestTokensWorkNextToPairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPairBench(t, TokenLocation{place: password})
		b.mustLogin(pairLogin(4, "c1", "pump-7", goodToken))
		b.mustLogin(pairLogin(4, "c2", "pump-7", pairPassword))
		var by []string
		for c := range b.srv.Clients() {
			by = append(by, fmt.Sprint(c.Subject(), " ", c.Grant.IsPair()))
		}
		if text := strings.Join(by, ", "); text != "alpha false, pump-7 true" && text != "pump-7 true, alpha false" {
			t.Error(text)
		}
	})
}

// TestRefusedPairs: each gets its reason, and no log line has a digest of a password.
func TestRefusedPairs(t *testing.T) {
	for name, tc := range map[string]struct {
		from    TokenLocation
		connect packets.Connect
		want    Reason
		level5  packets.ReasonCode
	}{
		"wrong password":                       {TokenLocation{}, pairLogin(5, "c", "pump-7", "wrong-password"), Reason(authz.WrongPassword), packets.BadUserNameOrPassword},
		"wrong password as token":              {TokenLocation{place: password}, pairLogin(5, "c", "pump-7", "wrong-password"), Reason(authz.WrongPassword), packets.BadUserNameOrPassword},
		"wrong password as client id":          {TokenLocation{place: password}, pairLogin(5, "wrong-password", "pump-7", "wrong-password"), Reason(authz.WrongPassword), packets.BadUserNameOrPassword},
		"unknown user":                         {TokenLocation{place: password}, pairLogin(5, "c", "nobody", "wrong-password"), Reason(authz.Unknown), packets.BadUserNameOrPassword},
		"no password":                          {TokenLocation{}, with(5, "c", "pump-7"), Reason(authz.Unknown), packets.BadUserNameOrPassword},
		"no password, and no token":            {TokenLocation{place: password}, with(5, "c", "pump-7"), NoToken, NoToken.Info().V5},
		"an empty password where the token is": {TokenLocation{place: password}, pairLogin(5, "c", "pump-7", ""), MalformedToken, MalformedToken.Info().V5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPairBench(t, tc.from)
				_, ack, err := b.login(tc.connect)
				if err != nil || ack.Code != tc.level5 {
					t.Errorf("CONNACK %v, %v", ack.Code, err)
				}
				r := b.lastRefusal()
				if r.Reason != tc.want {
					t.Errorf("refused as %s", r.Reason)
				}
				for _, secret := range []string{"wrong-password", authz.NewToken("wrong-password").Fingerprint()} {
					if text := fmt.Sprintf("%+v", r); strings.Contains(text, secret) {
						t.Errorf("the refusal shows %s: %s", secret, text)
					}
				}
			})
		})
	}
}

// TestWrongPasswordIsRefusedInEveryVersion: the codes are those of a wrong token.
func TestWrongPasswordIsRefusedInEveryVersion(t *testing.T) {
	for level, want := range map[byte]packets.ReasonCode{3: packets.RefusedNotAuthorized, 4: packets.RefusedNotAuthorized, 5: packets.BadUserNameOrPassword} {
		synctest.Test(t, func(t *testing.T) {
			b := newPairBench(t)
			if _, ack, err := b.login(pairLogin(level, "c", "pump-7", "wrong-password")); err != nil || ack.Code != want {
				t.Errorf("level %d: %v, %v", level, ack.Code, err)
			}
		})
	}
}

// TestPasswordAsClientIDGoesNowhere: not even in a form that shows whether a guess is right.
func TestPasswordAsClientIDGoesNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPairBench(t)
		b.mustLogin(pairLogin(4, pairPassword, "pump-7", pairPassword))
		if raw := b.broker.lastConnect().Append(nil); bytes.Contains(raw, []byte(pairPassword)) {
			t.Errorf("the broker got %q", raw)
		}
		fingerprint := authz.NewToken(pairPassword).Fingerprint()
		for c := range b.srv.Clients() {
			if c.ClientID == "" || c.ClientID == fingerprint || strings.Contains(c.ClientID, pairPassword) {
				t.Errorf("the session is shown as %q", c.ClientID)
			}
		}
	})
}

// TestPairsAreRechecked: a recheck has the user name and the password of the CONNECT.
func TestPairsAreRechecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPairBench(t)
		b.policy.Recheck = time.Minute
		b.mustLogin(pairLogin(4, "c1", "pump-7", pairPassword))
		b.mustLogin(pairLogin(4, "c2", "pump-8", pairPassword))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := b.srv.Stats().Sessions; n != 2 {
			t.Fatalf("%d sessions after rechecks without a change", n)
		}
		b.policy.Authorizer.(*knowsPairs).changed.Store(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := b.srv.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions after the passwords have changed", n)
		}
	})
}

// withdrawable grants a token until it is withdrawn, and every pair the same subject.
type withdrawable struct{ gone atomic.Bool }

func (*withdrawable) Takes() authz.Credentials { return authz.Tokens | authz.Pairs }

func (w *withdrawable) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if !r.Token.IsZero() && !w.gone.Load() {
		return knowsGood(ctx, r)
	}
	if r.Pair.IsZero() {
		return nil, authz.ErrUnknown
	}
	return &authz.Grant{TokenID: "pair", Subject: "alpha", PairHash: authz.PairHash("alpha", "stored")}, nil
}

// TestWithdrawnTokenIsNotKeptByAPair: a session that began with a token is asked about by that
// alone, whatever else its client has sent.
func TestWithdrawnTokenIsNotKeptByAPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPairBench(t)
		w := &withdrawable{}
		b.policy.Authorizer, b.policy.Recheck = w, time.Minute
		b.mustLogin(pairLogin(4, "c", goodToken, "any password"))
		w.gone.Store(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := b.srv.Stats().Sessions; n != 0 {
			t.Error("the session goes on by its pair")
		}
	})
}

// TestPairRulesHaveTheUserName: the placeholders of topic rules have a value although the
// user name stands where tokens are.
func TestPairRulesHaveTheUserName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPairBench(t)
		acl, err := authz.NewACL(authz.DenyRest, authz.Rule{Publish: true, Topics: []string{"u/${username}/${client_id}/#"}})
		if err != nil {
			t.Fatal(err)
		}
		b.policy.ACL = acl
		p := pairLogin(4, "pump-7", "pump-7", pairPassword)
		p.HasWill, p.Will.Topic = true, "u/pump-7/pump-7/gone"
		b.mustLogin(p)
		p.Will.Topic = "u/pump-8/pump-7/gone"
		if _, ack, err := b.login(p); err != nil || ack.Code != packets.RefusedNotAuthorized {
			t.Errorf("another's topic: %v, %v", ack.Code, err)
		}
	})
}
