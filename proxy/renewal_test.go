package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// authPacket returns an AUTH, without data if token is empty.
func authPacket(code packets.ReasonCode, method, token string) []byte {
	a := packets.Auth{Code: code, Properties: packets.Properties(nil).With(packets.AuthenticationMethod, method)}
	if token != "" {
		a.Properties = a.Properties.With(packets.AuthenticationData, token)
	}
	return a.Append(nil, 5)
}

func renewWith(token string) []byte { return authPacket(packets.Reauthenticate, "JWT", token) }

var (
	renewed = authPacket(packets.Success, "JWT", "") // the answer to an AUTH
	message = (&packets.Publish{Topic: []byte("t"), Payload: []byte("p")}).Append(nil, 5)
)

// newAuthBench returns a bench whose clients send their tokens as authentication data. A token
// names a subject and a number, such as alpha/1.
func newAuthBench(t *testing.T) *bench {
	b := newBench(t)
	b.policy.Token = []TokenLocation{{place: authData}, {place: username}}
	b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
		subject, number, ok := strings.Cut(r.Token.Reveal(), "/")
		switch {
		case !ok:
			return nil, authz.ErrUnknown
		case number == "throttled":
			return nil, authz.ErrThrottled
		case number == "down":
			return nil, errTest
		case number == "panic":
			panic("of the source")
		}
		return &authz.Grant{TokenID: number, Subject: subject, Expires: time.Now().Add(time.Hour)}, nil
	})
	return b
}

// authLogin is the CONNECT of a client with the token alpha/1 in its authentication data.
func authLogin() packets.Connect {
	p := with(5, "d", "")
	p.Properties = packets.Properties(nil).With(packets.AuthenticationMethod, "JWT").With(packets.AuthenticationData, "alpha/1")
	p.HasWill, p.Will.Topic = true, "gone"
	return p
}

// TestRenewal: what becomes of a session for what its client sends in AUTH. The broker sees none
// of it, and no DISCONNECT, so that it publishes the will.
func TestRenewal(t *testing.T) {
	for name, tt := range map[string]struct {
		auth []byte
		code packets.ReasonCode // of the DISCONNECT, 0 if the session goes on
		end  Cause
	}{
		"good token":          {renewWith("alpha/2"), 0, ""},
		"same token":          {renewWith("alpha/1"), 0, ""},
		"unknown token":       {renewWith("wrong"), packets.NotAuthorized, "renewal_denied"},
		"another subject":     {renewWith("beta/1"), packets.NotAuthorized, "renewal_denied"},
		"a certificate's":     {renewWith("certificate:/1"), packets.NotAuthorized, "renewal_denied"},
		"source down":         {renewWith("alpha/down"), packets.ServerBusy, "renewal_failed"},
		"throttled":           {renewWith("alpha/throttled"), packets.ServerBusy, "renewal_failed"},
		"panic of the source": {renewWith("alpha/panic"), packets.ServerBusy, CauseCut},
		"another method":      {authPacket(packets.Reauthenticate, "jwt", "alpha/2"), packets.ProtocolError, CauseFault},
		"continuation":        {authPacket(packets.ContinueAuthentication, "JWT", "alpha/2"), packets.ProtocolError, CauseFault},
		"success":             {authPacket(packets.Success, "JWT", "alpha/2"), packets.ProtocolError, CauseFault},
		"no data":             {authPacket(packets.Reauthenticate, "JWT", ""), packets.ProtocolError, CauseFault},
		"no method":           {[]byte{0xf0, 0x00}, packets.ProtocolError, CauseFault},
		"malformed":           {[]byte{0xf0, 0x02, 0x19, 0x07}, packets.MalformedPacket, CauseFault},
		"two at once":         {append(renewWith("alpha/2"), renewWith("alpha/2")...), packets.ProtocolError, CauseFault},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newAuthBench(t)
				panicked := false
				b.srv.Trace.Panicked = func(any, []byte) { panicked = true }
				if name == "two at once" {
					b.policy.Authorizer = slow(b.policy.Authorizer, second)
				}
				c := b.mustLogin(authLogin())
				go c.Write(slices.Concat(ping, tt.auth, ping))
				got := []byte{}
				if tt.code == 0 {
					for range 3 { // the broker sends back the two PINGREQ
						raw, err := packets.ReadPacket(c, 100)
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, raw...)
					}
					if !bytes.Contains(got, renewed) || bytes.Count(got, ping) != 2 {
						t.Errorf("the client got % x", got)
					}
				} else if code, err := c.AwaitEnd(time.Minute); err != nil || code != tt.code {
					t.Errorf("DISCONNECT %#x, %v; want %#x", byte(code), err, byte(tt.code))
				}
				if got := b.broker.received(); bytes.Contains(got, []byte{0xf0}) || bytes.Contains(got, []byte{0xe0}) {
					t.Errorf("the broker got % x", got)
				}
				if tt.end != "" && b.lastEnd().Cause() != tt.end {
					t.Errorf("the session ended as %s: %v", b.lastEnd().Cause(), b.lastEnd().Err)
				}
				if panicked != (name == "panic of the source") {
					t.Errorf("panicked: %v", panicked)
				}
			})
		})
	}
}

// slow delays the answers about all tokens but alpha/1.
func slow(a authz.Authorizer, by time.Duration) authorizerFunc {
	return func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
		if r.Token.Reveal() != "alpha/1" {
			select {
			case <-time.After(by):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return a.Authorize(ctx, r)
	}
}

func expectPacket(t *testing.T, c *packetstest.Client, want []byte) {
	t.Helper()
	if raw, err := packets.ReadPacket(c, 100); err != nil || !bytes.Equal(raw, want) {
		t.Fatalf("the client got % x, %v; want % x", raw, err, want)
	}
}

// TestShortTokensKeepASessionForAnHour: a token of five seconds that is renewed every four keeps
// the session for an hour, in which everything else passes. The session ends when the token is no
// longer renewed.
func TestShortTokensKeepASessionForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAuthBench(t)
		b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			subject, number, _ := strings.Cut(r.Token.Reveal(), "/")
			return &authz.Grant{TokenID: number, Subject: subject, Expires: time.Now().Add(5 * second)}, nil
		})
		var seen []string
		b.srv.Trace.Renewed = func(c *Client) { seen = append(seen, c.Grant.TokenID) }
		c := b.mustLogin(authLogin())
		for i := range 900 {
			time.Sleep(4 * second)
			c.Send(renewWith(fmt.Sprint("alpha/", i+2)))
			expectPacket(t, c, renewed)
			c.Send(message)
			expectPacket(t, c, message)
		}
		if last := seen[len(seen)-1]; len(seen) != 900 || last != "901" {
			t.Errorf("%d renewals, the last is %s", len(seen), last)
		}
		if code, err := c.AwaitEnd(time.Minute); err != nil || code != packets.NotAuthorized || !errors.Is(b.lastEnd().Err, ErrExpired) {
			t.Errorf("DISCONNECT %#x, %v", byte(code), err)
		}
	})
}

// TestRenewedSessionHasTheNewToken: the session has the id and the digest of the new token, and
// revocations of the old token do not concern it.
func TestRenewedSessionHasTheNewToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAuthBench(t)
		n := make(notifier)
		go b.srv.Watch(t.Context(), n)
		c := b.mustLogin(authLogin())
		c.Send(renewWith("alpha/2"))
		expectPacket(t, c, renewed)
		for client := range b.srv.Clients() {
			if client.Grant.TokenID != "2" || client.TokenHash != authz.NewToken("alpha/2").Hash() {
				t.Errorf("the session is known as %s", client.Grant.TokenID)
			}
		}
		n <- authz.Revocation{TokenID: "1"}
		n <- authz.Revocation{TokenHash: authz.NewToken("alpha/1").Hash()}
		c.Send(ping)
		expectPacket(t, c, ping)
		n <- authz.Revocation{TokenID: "2"}
		if code, err := c.AwaitEnd(time.Minute); err != nil || code != packets.AdministrativeAction {
			t.Errorf("DISCONNECT %#x, %v", byte(code), err)
		}
	})
}

// TestRequestOfARenewal: a session keeps the parts of the CONNECT that a source may look at, but
// not the token.
func TestRequestOfARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAuthBench(t)
		p := authLogin()
		p.Username, p.HasUsername, p.Password, p.HasPassword = "user", true, "password", true
		b.mustLogin(p)
		kept := b.srv.registry.all()[0].renewal().request
		if kept.Username != "user" || kept.Password.Reveal() != "password" || !kept.Token.IsZero() || !kept.Pair.IsZero() {
			t.Error("the request is another one")
		}
	})
}

// TestRevocationDuringARenewal: the answer is not used if the new token is revoked meanwhile, and
// the session ends at once if the old one is.
func TestRevocationDuringARenewal(t *testing.T) {
	for revoked, want := range map[string]Cause{"1": "revoked", "2": "renewal_denied"} {
		synctest.Test(t, func(t *testing.T) {
			b := newAuthBench(t)
			n := make(notifier)
			go b.srv.Watch(t.Context(), n)
			grants, withdrawn := b.policy.Authorizer, ""
			b.policy.Authorizer = slow(authorizerFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
				g, err := grants.Authorize(ctx, r)
				if r.Token.Reveal() == "alpha/2" && withdrawn == "" {
					withdrawn = revoked
					n <- authz.Revocation{TokenID: revoked}
					synctest.Wait()
				} else if g != nil && g.TokenID == withdrawn {
					return nil, authz.ErrUnknown
				}
				return g, err
			}), second)
			c := b.mustLogin(authLogin())
			c.Send(renewWith("alpha/2"))
			if _, err := c.AwaitEnd(time.Minute); err != nil {
				t.Error(err)
			}
			if got := b.lastEnd().Cause(); got != want {
				t.Errorf("%s revoked: ended as %s, want %s", revoked, got, want)
			}
		})
	}
}

// TestPacketsDuringARenewal pass in both directions while the source is asked.
func TestPacketsDuringARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAuthBench(t)
		b.policy.Authorizer = slow(b.policy.Authorizer, 5*second)
		c := b.mustLogin(authLogin())
		began := time.Now()
		c.Send(renewWith("alpha/2"))
		for range 10 {
			c.Send(message)
			expectPacket(t, c, message)
		}
		if passed := time.Since(began); passed != 0 {
			t.Errorf("the packets took %v", passed)
		}
		expectPacket(t, c, renewed)
		if took := time.Since(began); took != 5*second {
			t.Errorf("the renewal took %v", took)
		}
	})
}

// TestEndDuringARenewal: the question ends with its session.
func TestEndDuringARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAuthBench(t)
		b.policy.ConnectTimeout = time.Hour
		b.policy.Authorizer = slow(b.policy.Authorizer, time.Hour)
		c := b.mustLogin(authLogin())
		c.Send(renewWith("alpha/2"))
		synctest.Wait()
		began := time.Now()
		c.Close()
		b.lastEnd()
		b.srv.Close() // waits for the question
		if took := time.Since(began); took > 2*second {
			t.Errorf("the question went on for %v", took)
		}
	})
}

// TestManyRenewals: ten at once, then one a second, however quickly the client asks.
func TestManyRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAuthBench(t)
		c := b.mustLogin(authLogin())
		began := time.Now()
		for i := range 30 {
			c.Send(renewWith(fmt.Sprint("alpha/", i)))
			expectPacket(t, c, renewed)
		}
		if took := time.Since(began); took != 20*second {
			t.Errorf("30 renewals took %v", took)
		}
	})
}

// TestRecheckOfARenewedToken asks about the new token, and one that was under way about the old
// token does not count.
func TestRecheckOfARenewedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAuthBench(t)
		b.policy.Recheck = time.Minute
		var mu sync.Mutex
		var asked []string
		rechecked := func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(asked) }
		grants := b.policy.Authorizer
		b.policy.Authorizer = authorizerFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			if r.Purpose == authz.Recheck {
				mu.Lock()
				asked = append(asked, r.Token.Reveal())
				mu.Unlock()
				if r.Token.Reveal() == "alpha/1" {
					time.Sleep(5 * second)
					return nil, authz.ErrUnknown
				}
			}
			return grants.Authorize(ctx, r)
		})
		c := b.mustLogin(authLogin())
		for len(rechecked()) == 0 {
			time.Sleep(second)
		}
		c.Send(renewWith("alpha/2"))
		expectPacket(t, c, renewed)
		time.Sleep(3 * time.Minute)
		if all := rechecked(); b.srv.Stats().Sessions != 1 || len(all) < 3 || slices.Contains(all[1:], "alpha/1") {
			t.Errorf("%d sessions, asked about %q", b.srv.Stats().Sessions, all)
		}
		c.Close()
		synctest.Wait()
		if n := len(b.srv.rechecks.groups); n != 0 {
			t.Errorf("%d groups are left", n)
		}
	})
}

// TestRenewalBringsRules: new rules take effect at once, or end the session.
func TestRenewalBringsRules(t *testing.T) {
	first := aclOf(t, authz.DenyRest, "a", "gone")
	for name, tt := range map[string]struct {
		first  *authz.ACL
		topics []string
		ends   Cause
	}{
		"wider":                       {first, []string{"a", "b", "gone"}, ""},
		"narrower, subscription":      {first, []string{"gone"}, "rights_changed"},
		"narrower, will":              {first, []string{"a"}, "will_withdrawn"},
		"the first":                   {nil, []string{"a", "b", "gone"}, ""},
		"the first, not for the will": {nil, []string{"a", "b"}, "will_withdrawn"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newAuthBench(t)
				later := aclOf(t, authz.DenyRest, tt.topics...)
				b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
					if r.Token.Reveal() == "alpha/1" {
						return &authz.Grant{Subject: "alpha", ACL: tt.first}, nil
					}
					return &authz.Grant{Subject: "alpha", ACL: later}, nil
				})
				c := b.mustLogin(authLogin())
				s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: 1}
				s.Add("a", 0)
				c.Send(s.Append(nil, 5))
				if _, err := packets.ReadPacket(c, 100); err != nil {
					t.Fatal(err)
				}
				c.Send(renewWith("alpha/2"))
				if tt.ends != "" {
					code, err := c.AwaitEnd(time.Minute)
					if end := b.lastEnd().Cause(); err != nil || code != packets.AdministrativeAction || end != tt.ends {
						t.Errorf("DISCONNECT %#x, %v, %s", byte(code), err, end)
					}
					return
				}
				expectPacket(t, c, renewed)
				message := (&packets.Publish{Topic: []byte("b")}).Append(nil, 5)
				c.Send(message)
				expectPacket(t, c, message)
			})
		})
	}
}

// TestAuthWithoutRenewalIsPassedOn: if the places of the token do not include the authentication
// data, AUTH is between client and broker. Otherwise it is between client and proxy: a session
// without a method may not send one, nor may the broker.
func TestAuthWithoutRenewalIsPassedOn(t *testing.T) {
	auth := renewWith("x/1")
	for name, tt := range map[string]struct {
		token []TokenLocation
		code  packets.ReasonCode
		ours  bool
	}{
		"the broker's": {[]TokenLocation{{place: username}}, 0, false},
		"ours":         {[]TokenLocation{{place: username}, {place: authData}}, packets.ProtocolError, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newAuthBench(t)
				b.policy.Token = tt.token
				c := b.mustLogin(with(5, "d", "alpha/1"))
				c.Send(auth)
				if !tt.ours {
					expectPacket(t, c, auth) // the broker sends it back
				} else if code, err := c.AwaitEnd(time.Minute); err != nil || code != tt.code {
					t.Errorf("DISCONNECT %#x, %v", byte(code), err)
				}
				if got := b.broker.received(); bytes.Equal(got, auth) == tt.ours {
					t.Errorf("the broker got % x", got)
				}
			})
		})
	}
	t.Run("of the broker in its answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newAuthBench(t)
			b.broker.raw = authPacket(packets.ContinueAuthentication, "JWT", "x")
			if _, ack, err := b.login(authLogin()); err != nil || ack.Code != packets.ServerUnavailable {
				t.Errorf("CONNACK %v, %v", ack.Code, err)
			}
		})
	})
	t.Run("of the broker later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newAuthBench(t)
			b.broker.raw = append((&packets.Connack{}).Append(nil, 5), authPacket(packets.ContinueAuthentication, "JWT", "x")...)
			c := b.mustLogin(authLogin())
			c.ExpectEnd()
			if end := b.lastEnd(); end.By != "upstream" {
				t.Errorf("ended by %s: %v", end.By, end.Err)
			}
		})
	})
}

// TestMethodWithoutData: nothing can be done with the method.
func TestMethodWithoutData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAuthBench(t)
		p := with(5, "d", "")
		p.Properties = packets.Properties(nil).With(packets.AuthenticationMethod, "GS2-KRB5")
		if _, ack, err := b.login(p); err != nil || ack.Code != packets.BadAuthenticationMethod || b.lastRefusal().Reason != WrongAuthMethod {
			t.Errorf("CONNACK %v, %v", ack.Code, err)
		}
		p.Username, p.HasUsername = "alpha/1", true // the token is elsewhere
		if _, ack, err := b.login(p); err != nil || ack.Code != packets.Success {
			t.Errorf("CONNACK %v, %v", ack.Code, err)
		}
	})
}
