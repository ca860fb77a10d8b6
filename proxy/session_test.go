package proxy

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

func subject(name string) func(*Client) bool {
	return func(c *Client) bool { return c.Subject() == name }
}

// TestEndsOfASession: what a device and the broker get for every cause.
func TestEndsOfASession(t *testing.T) {
	disconnect := []byte{0xe0, 0x00}
	for _, tt := range []struct {
		cause    error
		v5       byte
		upstream []byte
	}{
		{ErrRevoked, 0x98, disconnect},
		{fmt.Errorf("file: %w", ErrRevoked), 0x98, disconnect},
		{ErrExpired, 0x87, nil},
		{ErrDisplaced, 0x8e, nil},
		{ErrKicked, 0x98, nil},
		{errTest, 0x98, nil},
		{ErrDraining, 0x8b, nil},
		{ErrUpstreamLost, 0x8b, nil},
	} {
		for _, level := range levels {
			t.Run(fmt.Sprintf("%v %s", tt.cause, versionName(level)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					c := b.mustLogin(with(level, "d", goodToken))
					other := b.mustLogin(with(level, "e", "good-beta"))
					synctest.Wait()
					if n := b.srv.Kick(subject("alpha"), tt.cause); n != 1 {
						t.Fatalf("%d sessions were ended, want 1", n)
					}
					var want []byte
					if level == 5 {
						want = []byte{0xe0, 0x01, tt.v5}
					}
					c.ExpectEnd(want...)
					if got := b.broker.received(); !bytes.Equal(got, tt.upstream) {
						t.Errorf("the broker got % x, want % x", got, tt.upstream)
					}
					if e := b.lastEnd(); !errors.Is(e.Err, tt.cause) || e.By != "proxy" {
						t.Errorf("end %+v", e)
					}
					other.Send(ping)
					if n := b.srv.Stats().Sessions; n != 1 {
						t.Errorf("%d sessions are left, want the other one", n)
					}
				})
			})
		}
	}
}

// TestNoCloseNoticeInsideAPacket: a device in the middle of a packet is closed
// without one.
func TestNoCloseNoticeInsideAPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.mustLogin(with(5, "d", goodToken))
		c.Send(publish[:5])
		half := make([]byte, 5)
		if _, err := c.Read(half); err != nil {
			t.Fatal(err)
		}
		b.srv.Kick(subject("alpha"), ErrRevoked)
		c.ExpectEnd()
		if got := b.broker.received(); !bytes.Equal(got, publish[:5]) {
			t.Errorf("the broker got % x", got)
		}
	})
}

func TestExpiryEndsALiveSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
			return &authz.Grant{Subject: "alpha", Expires: time.Now().Add(time.Hour)}, nil
		})
		c := b.mustLogin(with(5, "d", goodToken))
		start := time.Now()
		raw, err := packets.ReadPacket(c, 10)
		if d := time.Since(start); d != time.Hour || err != nil || !bytes.Equal(raw, []byte{0xe0, 0x01, 0x87}) {
			t.Errorf("got % x, %v after %v; want DISCONNECT 0x87 after 1h", raw, err, d)
		}
		c.ExpectEnd()
		if e := b.lastEnd(); !errors.Is(e.Err, ErrExpired) {
			t.Errorf("end %+v", e)
		}
	})
}

// TestRevocationOvertakesACheck: a grant that was withdrawn while it was on its
// way is not used.
func TestRevocationOvertakesACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var revoked atomic.Bool
		var asked atomic.Int32
		b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
			asked.Add(1)
			if revoked.Load() {
				return nil, &authz.Denial{Reason: authz.Revoked}
			}
			time.Sleep(second)
			return &authz.Grant{Subject: "alpha"}, nil
		})
		b.srv.SetPolicy(&b.policy)
		go func() {
			time.Sleep(500 * time.Millisecond)
			revoked.Store(true)
			if n := b.srv.Kick(subject("alpha"), ErrRevoked); n != 0 {
				t.Errorf("%d sessions were ended before there was one", n)
			}
		}()
		_, ack, err := b.login(with(5, "d", goodToken))
		if err != nil || ack.Code != packets.NotAuthorized || asked.Load() != 2 {
			t.Errorf("CONNACK %v, error %v after %d checks; want a refusal after 2", ack.Code, err, asked.Load())
		}
		if b.broker.lastConnect() != nil {
			t.Error("the broker was dialed")
		}
	})
}

// TestOtherRevocationsDoNotRepeatACheck: the Authorizer is asked again only
// after a revocation that applies to the client itself.
func TestOtherRevocationsDoNotRepeatACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var asked atomic.Int32
		b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
			asked.Add(1)
			b.srv.Kick(subject("beta"), ErrRevoked)
			return &authz.Grant{Subject: "alpha"}, nil
		})
		b.mustLogin(with(4, "d", goodToken))
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}

func TestRevocationWhileDialing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.broker.silent = true
		go func() {
			time.Sleep(second)
			b.srv.Kick(subject("alpha"), ErrRevoked)
		}()
		start := time.Now()
		_, ack, err := b.login(with(5, "d", goodToken))
		if err != nil || ack.Code != packets.NotAuthorized || time.Since(start) != second {
			t.Errorf("CONNACK %v, error %v after %v", ack.Code, err, time.Since(start))
		}
		if r := b.lastRefusal(); r.Reason != Reason(authz.Revoked) || r.Subject != "alpha" {
			t.Errorf("refusal %+v", r)
		}
	})
}

func TestClientIDInUseByAnotherSubject(t *testing.T) {
	for _, tt := range []struct {
		level byte
		want  packets.ReasonCode
	}{{4, packets.RefusedIdentifier}, {5, packets.ClientIDNotValid}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			first := b.mustLogin(with(tt.level, "shared", "good-alpha"))
			_, ack, err := b.login(with(tt.level, "shared", "good-beta"))
			if err != nil || ack.Code != tt.want || b.lastRefusal().Reason != ClientIDInUse {
				t.Errorf("CONNACK %v, error %v", ack.Code, err)
			}
			// The same subject may take over; the id stays taken until both of its
			// sessions have ended.
			second := b.mustLogin(with(tt.level, "shared", "good-alpha"))
			first.Close()
			b.lastEnd()
			if _, ack, _ := b.login(with(tt.level, "shared", "good-beta")); ack.Code != tt.want {
				t.Errorf("CONNACK %v while the taken-over session lives", ack.Code)
			}
			second.Close()
			b.lastEnd()
			b.mustLogin(with(tt.level, "shared", "good-beta"))
		})
	}
}

func TestEmptyClientID(t *testing.T) {
	t.Run("3.1.1 gets one made up towards the broker", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.mustLogin(with(4, "", goodToken))
			one := b.broker.lastConnect().ClientID
			b.mustLogin(with(4, "", goodToken))
			if two := b.broker.lastConnect().ClientID; len(one) != 23 || len(two) != 23 || one == two {
				t.Errorf("client ids %q and %q", one, two)
			}
		})
	})
	t.Run("3.1 is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			_, ack, err := b.login(with(3, "", goodToken))
			if err != nil || ack.Code != packets.RefusedIdentifier {
				t.Errorf("CONNACK %v, error %v; want %v", ack.Code, err, packets.RefusedIdentifier)
			}
			if r := b.lastRefusal(); r.Reason != NoClientID {
				t.Errorf("refusal %+v, want reason %q", r, NoClientID)
			}
		})
	})
	t.Run("5.0 leaves the choice to the broker", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.broker.answer.Properties = packets.Properties(nil).With(packets.AssignedClientIdentifier, "by-the-broker")
			_, ack, err := b.login(with(5, "", goodToken))
			if id, _ := ack.Properties.AssignedClientIdentifier(); err != nil || id != "by-the-broker" || b.broker.lastConnect().ClientID != "" {
				t.Errorf("assigned %q, broker got %q", id, b.broker.lastConnect().ClientID)
			}
			for c := range b.srv.Clients() {
				if c.ClientID != "by-the-broker" {
					t.Errorf("the session is known as %q", c.ClientID)
				}
			}
		})
	})
	t.Run("5.0 gets what a template made", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.Rewrite = func(r *ConnectRequest) error {
				r.Out.ClientID = r.Client.Subject() + ":" + r.Client.ClientID
				return nil
			}
			_, ack, err := b.login(with(5, "", goodToken))
			id, _ := ack.Properties.AssignedClientIdentifier()
			if got := b.broker.lastConnect().ClientID; err != nil || id == "" || got != "alpha:"+id {
				t.Errorf("assigned %q, broker got %q, error %v", id, got, err)
			}
		})
	})
}

func TestTokenLocations(t *testing.T) {
	property := func(name, value string) packets.Properties {
		raw := append([]byte{0x26, 0, byte(len(name))}, name...)
		raw = append(raw, 0, byte(len(value)))
		return packets.Properties(append(raw, value...))
	}
	method := packets.Properties(nil).With(packets.AuthenticationMethod, "token")
	emptyAuthData := method.With(packets.AuthenticationData, "")
	authData := method.With(packets.AuthenticationData, goodToken)
	for _, tt := range []struct {
		from    []string
		connect packets.Connect
	}{
		{[]string{"username"}, with(5, "d", goodToken)},
		{[]string{"password"}, packets.Connect{Level: 5, ClientID: "d", Username: "u", HasUsername: true, Password: goodToken, HasPassword: true}},
		{[]string{"password", "username"}, with(5, "d", goodToken)},
		{[]string{"password", "username"}, packets.Connect{Level: 5, ClientID: "d", Username: goodToken, HasUsername: true, HasPassword: true}},
		{[]string{"username", "client_id"}, packets.Connect{Level: 5, ClientID: goodToken, HasUsername: true}},
		{[]string{"user_property:token", "username"}, packets.Connect{Level: 5, ClientID: "d", Properties: property("token", ""), Username: goodToken, HasUsername: true}},
		{[]string{"auth_data", "user_property:token"}, packets.Connect{Level: 5, ClientID: "d", Properties: append(emptyAuthData[:len(emptyAuthData):len(emptyAuthData)], property("token", goodToken)...)}},
		{[]string{"certificate", "query:token", "websocket_header", "username"}, with(5, "d", goodToken)},
		{[]string{"username", "user_property:token"}, packets.Connect{Level: 5, ClientID: "d", Properties: append(property("token", goodToken), property("token", "second")...), Username: goodToken, HasUsername: true}},
		{[]string{"username", "auth_data"}, packets.Connect{Level: 5, ClientID: "d", Properties: authData, Username: goodToken, HasUsername: true}},
		{[]string{"client_id"}, with(5, goodToken, "")},
		{[]string{"user_property:token"}, packets.Connect{Level: 5, ClientID: "d", Properties: property("token", goodToken)}},
		{[]string{"auth_data"}, packets.Connect{Level: 5, ClientID: "d", Properties: authData}},
	} {
		t.Run(fmt.Sprint(tt.from), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				for _, s := range tt.from {
					l, err := ParseTokenLocation(s)
					if err != nil || l.String() != s {
						t.Fatalf("location %q: %v, %v", s, l, err)
					}
					b.policy.Token = append(b.policy.Token, l)
				}
				b.mustLogin(tt.connect)
				out := b.broker.lastConnect()
				if raw := out.Append(nil); bytes.Contains(raw, []byte(goodToken)) || bytes.Contains(raw, []byte("token")) {
					t.Errorf("a place of the token reached the broker: %q", raw)
				}
			})
		})
	}
	if _, err := ParseTokenLocation("user_property:"); err == nil {
		t.Error("a user property without a name is accepted")
	}
}

// TestBrokerRefuses: a refusal of the proxy's own credentials is not the
// device's fault, any other is passed on.
func TestBrokerRefuses(t *testing.T) {
	substitute := func(r *ConnectRequest) error {
		r.Out.Username, r.Out.HasUsername = "proxy", true
		return nil
	}
	forward := func(r *ConnectRequest) error {
		r.Out.Username, r.Out.HasUsername = r.In.Username, true
		return nil
	}
	for _, tt := range []struct {
		name    string
		rewrite func(*ConnectRequest) error
		level   byte
		answer  packets.ReasonCode
		want    packets.ReasonCode
		reason  Reason
	}{
		{"substituted, bad password", substitute, 4, 4, 3, UpstreamCredentials},
		{"substituted, not authorized", substitute, 4, 5, 3, UpstreamCredentials},
		{"substituted, bad password", substitute, 5, 0x86, 0x88, UpstreamCredentials},
		{"substituted, not authorized", substitute, 5, 0x87, 0x88, UpstreamCredentials},
		{"substituted, id rejected", substitute, 4, 2, 2, UpstreamRefused},
		{"substituted, banned", substitute, 5, 0x8a, 0x8a, UpstreamRefused},
		{"forwarded", forward, 4, 5, 5, UpstreamRefused},
		{"forwarded", forward, 5, 0x87, 0x87, UpstreamRefused},
	} {
		t.Run(fmt.Sprintf("%s %s", tt.name, versionName(tt.level)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Rewrite = tt.rewrite
				b.broker.answer.Code = tt.answer
				_, ack, err := b.login(with(tt.level, "d", goodToken))
				if err != nil || ack.Code != tt.want || b.lastRefusal().Reason != tt.reason {
					t.Errorf("CONNACK %v, error %v, reason %v", ack.Code, err, b.lastRefusal().Reason)
				}
			})
		})
	}
}

func TestConnackIsPassedOnByteForByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.broker.raw = []byte{0x20, 0x08, 0x01, 0x00, 0x05, 0x22, 0x00, 0x0a, 0x24, 0x01}
		c := b.connect()
		p := with(5, "d", goodToken)
		go c.Write(p.Append(nil))
		raw, err := packets.ReadPacket(c, 100)
		if err != nil || !bytes.Equal(raw, b.broker.raw) {
			t.Errorf("got % x, %v", raw, err)
		}
	})
}

func TestAuthExchangeIsPassedThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		challenge, response := []byte{0xf0, 0x02, 0x18, 0x00}, []byte{0xf0, 0x02, 0x18, 0x00}
		b.broker.raw = append(bytes.Clone(challenge), (&packets.Connack{}).Append(nil, 5)...)
		c := b.connect()
		c.Level = 5
		p := with(5, "d", goodToken)
		go c.Write(p.Append(nil))
		if raw, err := packets.ReadPacket(c, 100); err != nil || !bytes.Equal(raw, challenge) {
			t.Fatalf("got % x, %v", raw, err)
		}
		c.Send(response)
		if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
			t.Fatalf("CONNACK %v, %v", ack, err)
		}
		if got := b.broker.received(); !bytes.Equal(got, response) {
			t.Errorf("the broker got % x", got)
		}
	})
}

// TestSecondConnectEndsTheSession: it reaches no broker, however it is cut into
// pieces.
func TestSecondConnectEndsTheSession(t *testing.T) {
	for _, together := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			c := b.mustLogin(with(4, "d", goodToken))
			p := with(4, "d", "somebody-else")
			second := p.Append(nil)
			if together {
				go c.Write(append(bytes.Clone(ping), second...))
			} else {
				c.Send(ping)
				go c.Write(second)
			}
			c.ExpectEnd(ping...) // which the broker has sent back
			if e := b.lastEnd(); e.By != "client" || e.Err == nil {
				t.Errorf("end %+v", e)
			}
			if got := b.broker.received(); !bytes.Equal(got, ping) {
				t.Errorf("the broker got % x", got)
			}
		})
	}
}

func TestSessionsOfOneSubject(t *testing.T) {
	t.Run("the oldest gives way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.Limits.PerSubject = 2
			first := b.mustLogin(with(5, "one", goodToken))
			b.mustLogin(with(5, "two", goodToken))
			b.mustLogin(with(5, "other", "good-beta"))
			synctest.Wait()
			b.mustLogin(with(5, "three", goodToken))
			first.ExpectEnd(0xe0, 0x01, 0x8e)
			if e := b.lastEnd(); !errors.Is(e.Err, ErrDisplaced) {
				t.Errorf("end %+v", e)
			}
			if n := b.srv.Stats().Sessions; n != 3 {
				t.Errorf("%d sessions, want 3", n)
			}
		})
	})
	t.Run("the newest is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.Limits.PerSubject, b.policy.Limits.RefuseNewest = 1, true
			first := b.mustLogin(with(5, "one", goodToken))
			if _, ack, err := b.login(with(5, "two", goodToken)); err != nil || ack.Code != packets.ServerBusy {
				t.Errorf("CONNACK %v, %v", ack.Code, err)
			}
			// A device that comes back under its own id is not one too many.
			b.mustLogin(with(5, "one", goodToken))
			first.Close()
			b.lastEnd()
			if _, ack, _ := b.login(with(5, "two", goodToken)); ack.Code != packets.ServerBusy {
				t.Errorf("CONNACK %v", ack.Code)
			}
		})
	})
}

// TestSessionsOfOneSubjectByWhatTheBrokerSees: under which client id a device comes back
// does not matter if the broker is shown one and the same, and ends the older session.
func TestSessionsOfOneSubjectByWhatTheBrokerSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.PerSubject, b.policy.Limits.RefuseNewest = 1, true
		b.policy.Rewrite = func(r *ConnectRequest) error {
			r.Out.ClientID = r.Client.Subject()
			return nil
		}
		b.mustLogin(with(4, "random-1", goodToken))
		b.mustLogin(with(4, "random-2", goodToken))
	})
}

// TestRecheck: one question for all sessions of a token, a denial ends them, an
// outage does not.
func TestRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var asked atomic.Int32
		var now atomic.Pointer[error]
		b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			if r.Purpose == authz.Recheck {
				asked.Add(1)
			}
			if err := now.Load(); err != nil {
				return nil, *err
			}
			return &authz.Grant{Subject: "alpha", Recheck: time.Minute, Attrs: map[string]string{"round": "next"}}, nil
		})
		first := b.mustLogin(with(5, "one", goodToken))
		for range 2 {
			b.mustLogin(with(5, "one", goodToken))
		}
		time.Sleep(10*time.Minute + second)
		if n := asked.Load(); n < 10 || n > 12 {
			t.Errorf("asked %d times in ten minutes for three sessions of one token, want about ten", n)
		}
		outage := errTest
		now.Store(&outage)
		time.Sleep(10 * time.Minute)
		if n := b.srv.Stats().Sessions; n != 3 {
			t.Errorf("%d sessions are left after an outage of the source, want all", n)
		}
		denied := error(&authz.Denial{Reason: authz.Disabled})
		now.Store(&denied)
		raw, err := packets.ReadPacket(first, 10)
		if err != nil || !bytes.Equal(raw, []byte{0xe0, 0x01, 0x98}) {
			t.Errorf("got % x, %v; want DISCONNECT 0x98", raw, err)
		}
		time.Sleep(2 * second)
		if n := b.srv.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions are left after a denial", n)
		}
		asked.Store(0)
		time.Sleep(10 * time.Minute)
		if n := asked.Load(); n != 0 {
			t.Errorf("asked %d times after the last session had ended", n)
		}
	})
}

// TestRecheckAsksAboutEachClientID: an answer about one client id has no effect on the session of
// another with the same token.
func TestRecheckAsksAboutEachClientID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Recheck = time.Minute
		b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			if r.Purpose == authz.Recheck && r.ClientID == "denied" {
				return nil, &authz.Denial{Reason: authz.NotAuthorized}
			}
			return &authz.Grant{Subject: "alpha"}, nil
		})
		b.mustLogin(with(5, "first", goodToken))
		denied := b.mustLogin(with(5, "denied", goodToken))
		b.mustLogin(with(5, "last", goodToken))
		if raw, err := packets.ReadPacket(denied, 10); err != nil || !bytes.Equal(raw, []byte{0xe0, 0x01, 0x98}) {
			t.Errorf("got % x, %v; want DISCONNECT 0x98", raw, err)
		}
		time.Sleep(10 * time.Minute)
		var left []string
		for c := range b.srv.Clients() {
			left = append(left, c.ClientID)
		}
		slices.Sort(left)
		if !slices.Equal(left, []string{"first", "last"}) {
			t.Errorf("the sessions of %v are left", left)
		}
	})
}

// TestRecheckChangesTheExpiry: the expiry of the new grant replaces that of the old one.
func TestRecheckChangesTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		start := time.Now()
		b.policy.Recheck = time.Minute
		b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			expires := start.Add(2 * time.Minute)
			if r.Purpose == authz.Recheck {
				expires = start.Add(10 * time.Minute)
			}
			return &authz.Grant{Subject: "alpha", Expires: expires}, nil
		})
		c := b.mustLogin(with(5, "one", goodToken))
		raw, err := packets.ReadPacket(c, 10)
		if d := time.Since(start); err != nil || !bytes.Equal(raw, []byte{0xe0, 0x01, 0x87}) || d != 10*time.Minute {
			t.Errorf("got % x, %v after %v; want DISCONNECT 0x87 after 10m", raw, err, d)
		}
	})
}

func TestRecheckOfATokenWithANewSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Recheck = time.Minute
		b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			return &authz.Grant{Subject: "subject of a " + r.Purpose.String()}, nil
		})
		c := b.mustLogin(with(5, "one", goodToken))
		if raw, err := packets.ReadPacket(c, 10); err != nil || !bytes.Equal(raw, []byte{0xe0, 0x01, 0x98}) {
			t.Errorf("got % x, %v; want DISCONNECT 0x98", raw, err)
		}
	})
}

// grants returns an Authorizer whose every grant has these topic rules.
func grants(t *testing.T, rules string) authorizerFunc {
	acl, err := authz.ParseACL([]byte(rules), authz.ACLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return func(context.Context, authz.Request) (*authz.Grant, error) {
		return &authz.Grant{Subject: "alpha", ACL: acl}, nil
	}
}

// TestTopicRules: what a grant does not allow reaches no broker, and is answered.
func TestTopicRules(t *testing.T) {
	const rules = `[{"permission":"allow","action":"all","topic":"devices/${clientid}/#"}]`
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Authorizer = grants(t, rules)
		var denied []string
		b.srv.Trace.Denied = func(c *Client, d Denied) {
			denied = append(denied, fmt.Sprintf("%s %v %s %d %v", c.ClientID, d.Type, d.Topic, d.QoS, d.Retain))
		}
		c := b.mustLogin(with(5, "d", goodToken))
		forbidden := (&packets.Publish{Topic: []byte("devices/other/x"), QoS: 1, PacketID: 9, Payload: []byte("p")}).Append(nil, 5)
		allowed := (&packets.Publish{Topic: []byte("devices/d/x"), Payload: []byte("p")}).Append(nil, 5)
		c.Send(forbidden)
		if raw, err := packets.ReadPacket(c, 100); err != nil || !bytes.Equal(raw, []byte{0x40, 3, 0, 9, 0x87}) {
			t.Errorf("answer % x, %v; want PUBACK 0x87", raw, err)
		}
		c.Send(allowed)
		if _, err := io.ReadFull(c, make([]byte, len(allowed))); err != nil {
			t.Fatal(err)
		}
		if got := b.broker.received(); !bytes.Equal(got, allowed) {
			t.Errorf("the broker got % x, want the allowed PUBLISH alone", got)
		}
		if want := []string{"d PUBLISH devices/other/x 1 false"}; !slices.Equal(denied, want) {
			t.Errorf("denied %q, want %q", denied, want)
		}
		for _, activity := range b.srv.Sessions() {
			if a := activity(); a.Denied != 1 {
				t.Errorf("%d are denied to the session, want 1", a.Denied)
			}
		}
		c.Close()
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		if end := b.closed; len(end) != 1 || end[0].Denied != 1 {
			t.Errorf("the session ended with %+v", end)
		}
	})
	t.Run("will", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.Authorizer = grants(t, rules)
			p := with(5, "d", goodToken)
			p.HasWill, p.Will = true, packets.Will{Topic: "devices/other/gone"}
			if _, ack, err := b.login(p); err != nil || ack.Code != packets.NotAuthorized || b.lastRefusal().Reason != WillTopic {
				t.Errorf("CONNACK %v, %v", ack.Code, err)
			}
			p.Will.Topic = "devices/d/gone"
			b.mustLogin(p)
		})
	})
	t.Run("client id that would widen a rule", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.Authorizer = grants(t, rules)
			if _, ack, err := b.login(with(5, "#", goodToken)); err != nil || ack.Code != packets.ClientIDNotValid {
				t.Errorf("CONNACK %v, %v", ack.Code, err)
			}
			if s := b.srv.Stats(); s.Sessions != 0 {
				t.Errorf("still open: %+v", s)
			}
		})
	})
}

// TestRequestHasTheClientsOwnValues: it has no client id that was made up, and no token in place
// of one, so that a cache can use it as a key.
func TestRequestHasTheClientsOwnValues(t *testing.T) {
	for _, tt := range []struct {
		from    TokenLocation
		connect packets.Connect
		want    authz.Request
	}{
		{TokenLocation{}, with(4, "d", goodToken), authz.Request{ClientID: "d", Protocol: 4}},
		{TokenLocation{}, with(4, "", goodToken), authz.Request{Protocol: 4}},
		{TokenLocation{place: clientID}, with(5, goodToken, "u"), authz.Request{Username: "u", Protocol: 5}},
		{TokenLocation{place: password}, packets.Connect{Level: 5, ClientID: "d", HasUsername: true, Username: "u", HasPassword: true, Password: goodToken}, authz.Request{ClientID: "d", Username: "u", Protocol: 5}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.Token = []TokenLocation{tt.from}
			var got authz.Request
			b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
				got = r
				return &authz.Grant{Subject: "alpha"}, nil
			})
			b.mustLogin(tt.connect)
			if got.Token.Reveal() != goodToken || got.ClientID != tt.want.ClientID || got.Username != tt.want.Username || !got.Password.IsZero() || got.Protocol != tt.want.Protocol {
				t.Errorf("from %v: asked with client id %q, user name %q, level %d", tt.from, got.ClientID, got.Username, got.Protocol)
			}
		})
	}
}

func TestNamesOfACertificate(t *testing.T) {
	peer := &x509.Certificate{Raw: []byte("x"), Subject: pkix.Name{CommonName: "pump-7"}, DNSNames: []string{"pump-7.example", "other"}}
	for from, want := range map[string]string{
		"certificate_cn": "certificate:cn:pump-7", "certificate_san": "certificate:san:pump-7.example",
		"certificate": "certificate:" + authz.CertificateFingerprint(peer),
	} {
		l, err := ParseTokenLocation(from)
		if err != nil || l.String() != from {
			t.Fatalf("%s: %v, %v", from, l, err)
		}
		if token, ok := l.find(&packets.Connect{}, &arrival{peer: peer}); !ok || token.Reveal() != want {
			t.Errorf("%s: %q, %v", from, token.Reveal(), ok)
		}
		if _, ok := l.find(&packets.Connect{}, &arrival{}); ok {
			t.Errorf("%s: found without a certificate", from)
		}
	}
	for _, from := range []string{"certificate_cn", "certificate_san"} {
		l, _ := ParseTokenLocation(from)
		for _, peer := range []*x509.Certificate{{}, {DNSNames: []string{"", "other"}}} {
			if _, ok := l.find(&packets.Connect{}, &arrival{peer: peer}); ok {
				t.Errorf("%s: found in a certificate with the names %q", from, peer.DNSNames)
			}
		}
	}
}
