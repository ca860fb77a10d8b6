package proxy

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestTokenInTheClientIDIsReplaced: a client id or a user name that is the token or
// the password is shown as a fingerprint, and the broker gets a pseudonym in its place,
// which is the same each time.
func TestTokenInTheClientIDIsReplaced(t *testing.T) {
	const pass = "another-secret"
	credentials := func(level byte, id, user, secret string) packets.Connect {
		p := with(level, id, user)
		p.HasPassword, p.Password = secret != "", secret
		return p
	}
	for _, tt := range []struct {
		name    string
		from    TokenLocation
		connect packets.Connect
		secret  string
	}{
		{"client id alone", TokenLocation{place: clientID}, credentials(4, goodToken, "", ""), goodToken},
		{"client id and user name", TokenLocation{}, credentials(4, goodToken, goodToken, ""), goodToken},
		{"5.0", TokenLocation{}, credentials(5, goodToken, goodToken, ""), goodToken},
		{"3.1", TokenLocation{}, credentials(3, goodToken, goodToken, ""), goodToken},
		{"client id, user name and password", TokenLocation{place: password}, credentials(4, goodToken, goodToken, goodToken), goodToken},
		{"client id and password next to a token", TokenLocation{}, credentials(4, pass, goodToken, pass), pass},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Token, b.policy.ClientIDKey = []TokenLocation{tt.from}, []byte("a key for tests")
				b.policy.Rewrite = func(r *ConnectRequest) error {
					r.Out.Username, r.Out.HasUsername = r.Username, true
					return nil
				}
				b.mustLogin(tt.connect)
				first := b.broker.lastConnect()
				b.mustLogin(tt.connect)
				again := b.broker.lastConnect()
				raw := first.Append(nil)
				if bytes.Contains(raw, []byte(goodToken)) || bytes.Contains(raw, []byte(pass)) {
					t.Errorf("the broker got %q", raw)
				}
				digits := 32
				if tt.connect.Level == 3 {
					digits = maxClientID31
				}
				if len(first.ClientID) != digits || strings.Trim(first.ClientID, "0123456789abcdef") != "" || first.ClientID != again.ClientID {
					t.Errorf("the broker got client ids %q and %q, want %d digits", first.ClientID, again.ClientID, digits)
				}
				hash := authz.NewToken(tt.secret).Hash()
				if strings.HasPrefix(first.ClientID, hex.EncodeToString(hash[:4])) {
					t.Error("the client id is a digest that needs no key")
				}
				for c := range b.srv.Clients() {
					if c.ClientID != authz.NewToken(tt.secret).Fingerprint() {
						t.Errorf("the session is shown as %q", c.ClientID)
					}
				}
			})
		})
	}
}

// TestRefusedTokenInTheClientIDIsNotShown: nor is it if the token is not good.
func TestRefusedTokenInTheClientIDIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		const wrong = "the-token-of-another-system"
		if _, _, err := b.login(with(4, wrong, wrong)); err != nil {
			t.Fatal(err)
		}
		r := b.lastRefusal()
		if got := fmt.Sprint(r); strings.Contains(got, wrong) || r.ClientID != authz.NewToken(wrong).Fingerprint() {
			t.Errorf("the refusal shows client id %q", r.ClientID)
		}
	})
}

// TestPseudonymDependsOnTheKey: servers with the same key make the same pseudonyms, and servers
// without a key make different ones.
func TestPseudonymDependsOnTheKey(t *testing.T) {
	sent := func(key string) (id string) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.ClientIDKey = []byte(key)
			b.mustLogin(with(4, goodToken, goodToken))
			id = b.broker.lastConnect().ClientID
		})
		return id
	}
	if sent("one") != sent("one") || sent("one") == sent("two") || sent("") == sent("") {
		t.Error("the key does not decide what stands for a token")
	}
}

// TestOtherNamesPassUnchanged: a client id or user name that is no secret stays as it is.
func TestOtherNamesPassUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Token = []TokenLocation{{place: password}}
		b.policy.Rewrite = func(r *ConnectRequest) error {
			r.Out.Username, r.Out.HasUsername = r.Username, true
			return nil
		}
		p := with(4, "pump", "pump")
		p.HasPassword, p.Password = true, goodToken
		b.mustLogin(p)
		if out := b.broker.lastConnect(); out.ClientID != "pump" || out.Username != "pump" {
			t.Errorf("the broker got client id %q and user name %q", out.ClientID, out.Username)
		}
	})
}

// TestTopicRulesKnowTheClientID: a 5.0 client without a client id gets the one that
// its topic rules were made for, instead of one that the broker would choose.
func TestTopicRulesKnowTheClientID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		rules, err := authz.ParseACL([]byte(`[{"permission":"allow","action":"all","topics":["devices/${clientid}/#"]}]`), authz.ACLOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
			return &authz.Grant{TokenID: "t", Subject: "alpha", ACL: rules}, nil
		})
		_, ack, err := b.login(with(5, "", goodToken))
		id, _ := ack.Properties.AssignedClientIdentifier()
		if err != nil || id == "" || b.broker.lastConnect().ClientID != id {
			t.Errorf("the client gets %q, the broker %q; error %v", id, b.broker.lastConnect().ClientID, err)
		}
	})
}
