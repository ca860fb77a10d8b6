package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

var levels = []byte{3, 4, 5}

func TestGoodTokenIsAccepted(t *testing.T) {
	for _, level := range levels {
		t.Run(versionName(level), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Rewrite = func(r *ConnectRequest) error {
					r.Out.Username, r.Out.HasUsername = "proxy-"+r.Client.Subject(), true
					r.Out.Password, r.Out.HasPassword = "upstream-secret", true
					return nil
				}
				p := with(level, "dev-1", goodToken)
				p.Password, p.HasPassword = "of the device", true
				c := b.mustLogin(p)
				got := b.broker.lastConnect()
				if got.Username != "proxy-alpha" || got.Password != "upstream-secret" || got.ClientID != "dev-1" || got.Level != level {
					t.Errorf("the broker got %v with user name %q", got, got.Username)
				}
				c.Send(publish)
				back := make([]byte, len(publish))
				if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, publish) {
					t.Errorf("got % x, error %v; want the bytes unchanged", back, err)
				}
				c.Close()
				e := b.lastEnd()
				if e.By != "client" || e.Err != nil || e.Up != int64(len(publish)) || e.Down != int64(len(publish)) {
					t.Errorf("end %+v", e)
				}
				if s := b.srv.Stats(); s.Connections+s.Sessions+s.Quiet+s.Busy != 0 {
					t.Errorf("still open: %+v", s)
				}
			})
		})
	}
}

func TestClientsCredentialsDoNotReachTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		p := with(5, "dev-1", goodToken)
		p.Password, p.HasPassword = "of the device", true
		b.mustLogin(p)
		if got := b.broker.lastConnect(); got.HasUsername || got.HasPassword {
			t.Errorf("the broker got credentials: %v", got)
		}
	})
}

func TestBytesSentWithTheConnectArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.connect()
		p := with(4, "dev-1", goodToken)
		go c.Write(append(p.Append(nil), publish...))
		if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
			t.Fatal(ack, err)
		}
		back := make([]byte, len(publish))
		if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, publish) {
			t.Errorf("got % x, %v", back, err)
		}
	})
}

// TestRefusals walks through the table of refusals: what each version gets,
// what is traced, and that the broker is not even dialed unless it has to be.
func TestRefusals(t *testing.T) {
	deny := func(r authz.Reason) authorizerFunc {
		return func(context.Context, authz.Request) (*authz.Grant, error) { return nil, &authz.Denial{Reason: r} }
	}
	fail := func(err error) authorizerFunc {
		return func(context.Context, authz.Request) (*authz.Grant, error) { return nil, fmt.Errorf("source: %w", err) }
	}
	const closed = 0xff // closed without a CONNACK
	for _, tt := range []struct {
		name    string
		setup   func(*bench)
		connect func(level byte) packets.Connect
		v3, v5  packets.ReasonCode
		reason  Reason
		dials   bool
	}{
		{name: "unknown token", connect: func(l byte) packets.Connect { return with(l, "d", "bad") }, v3: 5, v5: 0x86, reason: "unknown_token"},
		{name: "empty token", connect: func(l byte) packets.Connect {
			p := with(l, "d", "")
			p.HasUsername = true
			return p
		}, v3: 5, v5: 0x86, reason: MalformedToken},
		{name: "expired", setup: func(b *bench) { b.policy.Authorizer = deny(authz.Expired) }, v3: 5, v5: 0x87, reason: "expired"},
		{name: "disabled", setup: func(b *bench) { b.policy.Authorizer = deny(authz.Disabled) }, v3: 5, v5: 0x87, reason: "disabled"},
		{name: "not yet valid", setup: func(b *bench) { b.policy.Authorizer = deny(authz.NotYetValid) }, v3: 5, v5: 0x87, reason: "not_yet_valid"},
		{name: "wrong certificate", setup: func(b *bench) { b.policy.Authorizer = deny(authz.WrongCertificate) }, v3: 5, v5: 0x87, reason: "wrong_certificate"},
		{name: "plain denial", setup: func(b *bench) { b.policy.Authorizer = fail(authz.ErrDenied) }, v3: 5, v5: 0x87, reason: "not_authorized"},
		{name: "wrong client id", setup: func(b *bench) {
			b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
				return &authz.Grant{Subject: "alpha", Only: authz.Conditions{ClientIDs: []string{"other"}}}, nil
			})
		}, v3: 5, v5: 0x87, reason: "wrong_client_id"},
		{name: "grant expired in the cache", setup: func(b *bench) {
			b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
				return &authz.Grant{Subject: "alpha", Expires: time.Now()}, nil
			})
		}, v3: 5, v5: 0x87, reason: "expired"},
		{name: "no token", connect: func(l byte) packets.Connect { return with(l, "d", "") }, v3: 2, v5: 0x85, reason: NoToken},
		{name: "source down", setup: func(b *bench) { b.policy.Authorizer = fail(authz.ErrUnavailable) }, v3: 3, v5: 0x88, reason: SourceUnavailable},
		{name: "any other error is not a no", setup: func(b *bench) { b.policy.Authorizer = fail(errTest) }, v3: 3, v5: 0x88, reason: SourceUnavailable},
		{name: "source busy", setup: func(b *bench) { b.policy.Authorizer = fail(authz.ErrBusy) }, v3: 3, v5: 0x89, reason: Busy},
		{name: "throttled", setup: func(b *bench) { b.policy.Authorizer = fail(authz.ErrThrottled) }, v3: 3, v5: 0x9f, reason: Throttled},
		{name: "broker down", setup: func(b *bench) { b.broker.err = errTest }, v3: 3, v5: 0x88, reason: UpstreamUnavailable},
		{name: "broker sends garbage", setup: func(b *bench) { b.broker.raw = []byte{0x40, 0x02, 0x00, 0x01} }, v3: 3, v5: 0x88, reason: UpstreamUnavailable, dials: true},
		{name: "broker hangs up", setup: func(b *bench) { b.broker.raw = []byte{0x20} }, v3: 3, v5: 0x88, reason: UpstreamUnavailable, dials: true},
		{name: "will topic", setup: func(b *bench) {
			b.policy.Rewrite = func(*ConnectRequest) error { return &RefusedError{Reason: WillTopic, Err: errTest} }
		}, v3: 5, v5: 0x87, reason: WillTopic},
		{name: "cannot rewrite", setup: func(b *bench) { b.policy.Rewrite = func(*ConnectRequest) error { return errTest } }, v3: 3, v5: 0x88, reason: UpstreamUnavailable},
		{name: "rewritten too long", setup: func(b *bench) {
			b.policy.Rewrite = func(r *ConnectRequest) error {
				r.Out.Username, r.Out.HasUsername = string(make([]byte, 70000)), true
				return nil
			}
		}, v3: 3, v5: 0x88, reason: UpstreamUnavailable},
		{name: "version not allowed", setup: func(b *bench) { b.policy.Levels = []byte{9} }, v3: 1, v5: 0x84, reason: WrongVersion},
		{name: "bug", setup: func(b *bench) {
			b.srv.Trace.Panicked = nil
			b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) { panic("bug") })
		}, v3: 3, v5: 0x88, reason: Internal},
		{name: "too large", setup: func(b *bench) { b.policy.MaxConnect = 20 }, v3: closed, v5: 0x95, reason: TooLarge},
	} {
		for _, level := range levels {
			t.Run(tt.name+" "+versionName(level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					if tt.setup != nil {
						tt.setup(b)
					}
					connect := with(level, "d", goodToken)
					if tt.connect != nil {
						connect = tt.connect(level)
					}
					want := tt.v3
					if level == 5 {
						want = tt.v5
					}
					c, ack, err := b.login(connect)
					if want == closed {
						if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
							t.Errorf("CONNACK %v, error %v; want a close without one", ack, err)
						}
					} else {
						if err != nil || ack.Code != want || ack.SessionPresent {
							t.Errorf("CONNACK %+v, error %v; want code %#x", ack, err, byte(want))
						}
						c.ExpectEnd()
					}
					if r := b.lastRefusal(); r.Reason != tt.reason || r.Sent != (want != closed) {
						t.Errorf("refusal %+v, want reason %q", r, tt.reason)
					}
					if dialed := b.broker.lastConnect() != nil; dialed != tt.dials {
						t.Errorf("the broker got a CONNECT: %v, want %v", dialed, tt.dials)
					}
					if s := b.srv.Stats(); s != (Stats{}) {
						t.Errorf("still open: %+v", s)
					}
				})
			})
		}
	}
}

func TestNeitherTokenNorClientID(t *testing.T) {
	for level, want := range map[byte]packets.ReasonCode{4: 5, 5: 0x87} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			_, ack, err := b.login(with(level, "", ""))
			if err != nil || ack.Code != want || b.lastRefusal().Reason != NoIdentity {
				t.Errorf("level %d: CONNACK %v, error %v, %v", level, ack, err, b.lastRefusal().Reason)
			}
		})
	}
}

func TestPersistentSessionNeedsAClientID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		p := with(4, "", goodToken)
		p.CleanStart = false
		_, ack, err := b.login(p)
		if err != nil || ack.Code != packets.RefusedIdentifier || b.lastRefusal().Reason != NoClientID {
			t.Errorf("CONNACK %v, error %v, reason %v", ack, err, b.lastRefusal().Reason)
		}
	})
}

func TestUnknownProtocolLevel(t *testing.T) {
	for _, tt := range []struct {
		raw  string
		want []byte
	}{
		{"\x10\x0e\x00\x04MQTT\x06\x02\x00\x3c\x00\x02ab", []byte{0x20, 3, 0, 0x84, 0}},
		{"\x10\x0e\x00\x04MQTT\x02\x02\x00\x3c\x00\x02ab", []byte{0x20, 2, 0, 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			c := b.connect()
			go c.Write([]byte(tt.raw))
			c.ExpectEnd(tt.want...)
			if r := b.lastRefusal(); r.Reason != WrongVersion {
				t.Errorf("reason %v", r.Reason)
			}
		})
	}
}

func TestMalformedConnect(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      []byte
	}{
		{"3.1.1 is closed", "\x10\x0e\x00\x04MQTT\x04\x03\x00\x3c\x00\x02ab", nil},
		{"5.0 malformed", "\x10\x0f\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x02ab", []byte{0x20, 3, 0, 0x81, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				c := b.connect()
				go c.Write([]byte(tt.raw))
				c.ExpectEnd(tt.want...)
				if r := b.lastRefusal(); r.Reason != Malformed {
					t.Errorf("reason %v", r.Reason)
				}
			})
		})
	}
}

func TestNotMQTTIsClosedAtOnce(t *testing.T) {
	for _, raw := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03rest", "\x30\x05\x00\x01tab", "\xc0\x00"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			start := time.Now()
			c := b.connect()
			go c.Write([]byte(raw))
			c.ExpectEnd()
			if r := b.lastRefusal(); r.Reason != NotMQTT || time.Since(start) != 0 {
				t.Errorf("reason %v after %v, want not_mqtt at once", r.Reason, time.Since(start))
			}
		})
	}
}

// TestConnectDeadlineIsAbsolute: neither silence nor a byte now and then keeps a
// connection open beyond its deadline.
func TestConnectDeadlineIsAbsolute(t *testing.T) {
	for _, interval := range []time.Duration{0, 400 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.ConnectTimeout = 10 * second
			start := time.Now()
			c := b.connect()
			var writer sync.WaitGroup
			defer writer.Wait()
			if interval > 0 {
				p := with(4, "dev-1", goodToken)
				writer.Go(func() {
					for _, octet := range p.Append(nil) {
						if _, err := c.Write([]byte{octet}); err != nil {
							return
						}
						time.Sleep(interval)
					}
				})
			}
			c.ExpectEnd()
			if d := time.Since(start); d != 10*second {
				t.Errorf("closed after %v, want 10s", d)
			}
			if r := b.lastRefusal(); r.Reason != ConnectTimeout || b.broker.lastConnect() != nil {
				t.Errorf("reason %v", r.Reason)
			}
		})
	}
}

func TestBrokerThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.broker.silent = true
		b.policy.UpstreamTimeout = 3 * second
		start := time.Now()
		_, ack, err := b.login(with(4, "d", goodToken))
		if err != nil || ack.Code != packets.RefusedServerUnavailable || time.Since(start) != 3*second {
			t.Errorf("CONNACK %v, error %v after %v; want code 3 after 3s", ack.Code, err, time.Since(start))
		}
	})
}

func TestSourceThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Authorizer = authorizerFunc(func(ctx context.Context, _ authz.Request) (*authz.Grant, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		_, ack, err := b.login(with(5, "d", goodToken))
		if err != nil || ack.Code != packets.ServerUnavailable {
			t.Errorf("CONNACK %v, error %v", ack.Code, err)
		}
	})
}
