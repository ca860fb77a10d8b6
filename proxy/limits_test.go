package proxy

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

func limitsOf(t testing.TB, text string) authz.Limits {
	t.Helper()
	l, err := authz.ParseLimits([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLimitsAreAnnounced: the CONNACK of MQTT 5.0 has the limits of the session, or those of the
// broker where they are lower.
func TestLimitsAreAnnounced(t *testing.T) {
	const most, qos, retain = packets.MaximumPacketSize, packets.MaximumQoS, packets.RetainAvailable
	size := func(n uint32) packets.Properties { return packets.Properties(nil).WithMaximumPacketSize(n) }
	for name, tt := range map[string]struct {
		policy, grant string
		broker, want  packets.Properties
	}{
		"none":                       {`{}`, `{}`, nil, nil},
		"no bounds":                  {`{"publish_rate":1}`, `{"max_qos":2,"retain":true}`, nil, nil},
		"of the policy":              {`{"max_packet":1000,"max_qos":1,"retain":false}`, `{}`, nil, size(1000).WithByte(qos, 1).WithByte(retain, 0)},
		"of the grant":               {`{"max_packet":1000,"max_qos":1,"retain":false}`, `{"max_packet":2000,"max_qos":0,"retain":true}`, nil, size(2000).WithByte(qos, 0)},
		"the broker takes less":      {`{"max_packet":1000,"max_qos":1,"retain":false}`, `{}`, size(500).WithByte(qos, 0).WithByte(retain, 0), size(500).WithByte(qos, 0).WithByte(retain, 0)},
		"the broker takes more":      {`{"max_packet":1000,"max_qos":0,"retain":false}`, `{}`, size(5000).WithByte(qos, 1).WithByte(retain, 1), size(1000).WithByte(qos, 0).WithByte(retain, 0)},
		"the superuser has them too": {`{"max_qos":1}`, `{"sessions":1}`, nil, packets.Properties(nil).WithByte(qos, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.SessionLimits = limitsOf(t, tt.policy)
				b.policy.Authorizer = grantOf(authz.Grant{Subject: "alpha", Limits: limitsOf(t, tt.grant), Superuser: strings.HasPrefix(name, "the superuser")})
				b.broker.answer.Properties = tt.broker
				_, ack, err := b.login(with(5, "d", goodToken))
				if err != nil || !bytes.Equal(ack.Properties, tt.want) {
					t.Errorf("the CONNACK has % x, %v, want % x (%v)", []byte(ack.Properties), err, []byte(tt.want), most)
				}
			})
		})
	}
}

// TestWillOverALimit refuses the CONNECT.
func TestWillOverALimit(t *testing.T) {
	for name, tt := range map[string]struct {
		limits string
		reason Reason
		code   packets.ReasonCode
	}{
		"QoS":    {`{"max_qos":0}`, WillQoS, packets.QoSNotSupported},
		"retain": {`{"retain":false}`, WillRetain, packets.RetainNotSupported},
		"size":   {`{"max_packet":50}`, WillTooLarge, packets.PacketTooLarge},
	} {
		for _, level := range []byte{3, 4, 5} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					b.policy.SessionLimits = limitsOf(t, tt.limits)
					p := with(level, "d", goodToken)
					p.HasWill, p.Will = true, packets.Will{Topic: "gone", QoS: 1, Retain: true, Payload: make([]byte, 100)}
					_, ack, err := b.login(p)
					want := packets.RefusedNotAuthorized
					if level == 5 {
						want = tt.code
					}
					if err != nil || ack.Code != want || b.lastRefusal().Reason != tt.reason || b.broker.lastConnect() != nil {
						t.Errorf("level %d: CONNACK %v, %v, reason %s", level, ack.Code, err, b.lastRefusal().Reason)
					}
				})
			})
		}
	}
}

// TestMessageOverALimitIsDenied: before MQTT 5.0 it is dropped and acknowledged, in 5.0 it ends
// the session; it is counted in both.
func TestMessageOverALimitIsDenied(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		for limits, want := range map[string]packets.ReasonCode{
			`{"max_packet":50}`: packets.PacketTooLarge, `{"max_qos":0}`: packets.QoSNotSupported, `{"retain":false}`: packets.RetainNotSupported,
		} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				var reported []Denied
				b.srv.Trace.Denied = func(_ *Client, d Denied) { reported = append(reported, d) }
				b.policy.SessionLimits = limitsOf(t, limits)
				c := b.mustLogin(with(level, "d", goodToken))
				c.Send((&packets.Publish{Topic: []byte("t"), QoS: 1, PacketID: 9, Retain: true, Payload: make([]byte, 60)}).Append(nil, level))
				answer := (&packets.Ack{Type: packets.PUBACK, PacketID: 9}).Append(nil, level)
				if level == 5 {
					answer = (&packets.Disconnect{Code: want}).Append(nil, level)
				}
				if raw, err := packets.ReadPacket(c, 100); err != nil || !bytes.Equal(raw, answer) {
					t.Errorf("level %d, %s: answer % x, %v; want % x", level, limits, raw, err, answer)
				}
				c.Close()
				if end := b.lastEnd(); end.Denied != 1 || len(reported) != 1 || end.By != "client" || (end.Err != nil) != (level == 5) || len(b.broker.received()) > 0 {
					t.Errorf("level %d, %s: %+v, reported %v, the broker got % x", level, limits, end, reported, b.broker.received())
				}
			})
		}
	}
}

// TestSessionsOfAGrant: the limit of the newest grant counts instead of the policy's.
func TestSessionsOfAGrant(t *testing.T) {
	for name, tt := range map[string]struct {
		policy int
		grant  string
		live   int
	}{
		"more than the policy": {1, `{"sessions":3}`, 3},
		"fewer":                {3, `{"sessions":2}`, 2},
		"where it has none":    {0, `{"sessions":1}`, 1},
		"none of its own":      {2, `{}`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Limits.PerSubject = tt.policy
				b.policy.Authorizer = grantOf(authz.Grant{Subject: "alpha", Limits: limitsOf(t, tt.grant)})
				for _, id := range []string{"a", "b", "c", "d"} {
					c := b.mustLogin(with(5, id, goodToken))
					go io.Copy(io.Discard, c)
				}
				time.Sleep(time.Minute)
				if got := b.srv.Stats().Sessions; got != tt.live {
					t.Errorf("%d sessions are left, want %d", got, tt.live)
				}
			})
		})
	}
}

// TestLimitsThatChange: limits that change with a recheck apply to the live session, unless its
// client would have to be informed.
func TestLimitsThatChange(t *testing.T) {
	for name, tt := range map[string]struct {
		level    byte
		old, now string
		ends     bool
	}{
		"lower rate":                      {5, `{"publish_rate":9}`, `{"publish_rate":5}`, false},
		"larger packets":                  {5, `{"max_packet":100}`, `{"max_packet":200}`, false},
		"smaller packets":                 {5, `{"max_packet":200}`, `{"max_packet":100}`, true},
		"smaller packets before 5.0":      {4, `{"max_packet":200}`, `{"max_packet":100}`, false},
		"lower QoS":                       {5, `{"max_qos":1}`, `{"max_qos":0}`, true},
		"lower QoS before 5.0":            {4, `{"max_qos":1}`, `{"max_qos":0}`, false},
		"limits where there were none":    {4, `{}`, `{"max_qos":0}`, true},
		"no limits where there were some": {4, `{"max_qos":0}`, `{}`, false},
		"another limit on sessions":       {4, `{}`, `{"sessions":2}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Recheck = time.Minute
				b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
					limits := tt.old
					if r.Purpose == authz.Recheck {
						limits = tt.now
					}
					return &authz.Grant{Subject: "alpha", Limits: limitsOf(t, limits)}, nil
				})
				c := b.mustLogin(with(tt.level, "d", goodToken))
				time.Sleep(3 * time.Minute)
				if live := b.srv.Stats().Sessions; (live == 0) != tt.ends {
					t.Fatalf("%d sessions are left", live)
				}
				if tt.level == 4 && tt.now == `{"max_qos":0}` && !tt.ends {
					c.Send((&packets.Publish{Topic: []byte("t"), QoS: 1, PacketID: 9}).Append(nil, 4))
					if raw, err := packets.ReadPacket(c, 100); err != nil || packets.Type(raw[0]>>4) != packets.PUBACK {
						t.Errorf("answer % x, %v", raw, err)
					}
					if got := b.broker.received(); len(got) > 0 {
						t.Errorf("the broker got % x", got)
					}
				}
			})
		})
	}
}

// TestRatesHoldAClient: over a rate nothing is read from it until it may go on. Nothing is lost,
// the order stays, a PINGREQ is answered in its turn, and the broker's messages do not wait.
func TestRatesHoldAClient(t *testing.T) {
	for name, tt := range map[string]struct {
		limits string
		last   time.Duration // of 30 messages of 20 bytes and a PINGREQ
	}{
		"messages":           {`{"publish_rate":10,"publish_burst":5}`, 2500 * time.Millisecond},
		"burst of a second":  {`{"publish_rate":10}`, 2 * time.Second},
		"bytes":              {`{"byte_rate":100}`, 5020 * time.Millisecond},
		"both, bytes matter": {`{"publish_rate":1000,"byte_rate":100,"max_qos":1}`, 5020 * time.Millisecond},
		"within the rate":    {`{"publish_rate":1000,"byte_rate":100000}`, 0},
	} {
		for _, level := range []byte{3, 4, 5} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					b.policy.SessionLimits = limitsOf(t, tt.limits)
					c := b.mustLogin(with(level, "d", goodToken))
					var sent []byte
					for i := range 30 {
						p := packets.Publish{Topic: []byte("t"), Payload: make([]byte, 15)}
						if level == 5 {
							p.Payload = p.Payload[1:]
						}
						p.Payload[0] = byte(i)
						sent = p.Append(sent, level)
					}
					sent = append(sent, ping...)
					start := time.Now()
					go c.Write(sent)
					time.AfterFunc(tt.last/2, func() {
						if st := b.srv.Stats(); tt.last > 0 && (st.Held != 1 || st.Holds == 0) {
							t.Errorf("level %d: %d sessions are held, %d holds", level, st.Held, st.Holds)
						}
					})
					// The broker sends everything back.
					back := make([]byte, len(sent))
					if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, sent) {
						t.Fatalf("level %d: % x came back, %v", level, back, err)
					}
					took := time.Since(start)
					if took < tt.last-30*time.Millisecond || took > tt.last+30*time.Millisecond {
						t.Errorf("level %d: took %v, want %v", level, took, tt.last)
					}
					if st := b.srv.Stats(); st.Held != 0 {
						t.Errorf("level %d: %d sessions are held at the end", level, st.Held)
					}
				})
			})
		}
	}
}

// TestRateThatChanges applies to a session that is held.
func TestRateThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Recheck = time.Minute
		b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			limits := `{"publish_rate":1,"publish_burst":1}`
			if r.Purpose == authz.Recheck {
				limits = `{}`
			}
			return &authz.Grant{Subject: "alpha", Limits: limitsOf(t, limits)}, nil
		})
		c := b.mustLogin(with(4, "d", goodToken))
		sent := bytes.Repeat((&packets.Publish{Topic: []byte("t")}).Append(nil, 4), 1000)
		start := time.Now()
		go c.Write(sent)
		if _, err := io.ReadFull(c, make([]byte, len(sent))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 50*time.Second || took > 62*time.Second {
			t.Errorf("took %v, want as long as until the recheck", took)
		}
	})
}
