package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

func mapOf(t testing.TB, rules ...topicmap.Rule) *topicmap.Map {
	t.Helper()
	m, err := topicmap.Compile(topicmap.Options{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func grantOf(g authz.Grant) authorizerFunc {
	return func(context.Context, authz.Request) (*authz.Grant, error) { return &g, nil }
}

// TestTopicMap: the broker sees its own topics, in the will too, and the client its own.
func TestTopicMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Topics = mapOf(t, topicmap.Rule{Device: "me/#", Broker: "devices/${subject}/#"})
		b.policy.Authorizer = grantOf(authz.Grant{Subject: "alpha"})
		p := with(5, "d", goodToken)
		p.HasWill, p.Will = true, packets.Will{Topic: "me/gone"}
		c := b.mustLogin(p)
		if will := b.broker.lastConnect().Will; will.Topic != "devices/alpha/gone" {
			t.Errorf("the broker got a will to %s", will.Topic)
		}
		own := (&packets.Publish{Topic: []byte("me/x"), Payload: []byte("p")}).Append(nil, 5)
		c.Send(own)
		// The broker sends everything back.
		back := make([]byte, len(own))
		if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, own) {
			t.Errorf("the client got % x, %v", back, err)
		}
		if want := (&packets.Publish{Topic: []byte("devices/alpha/x"), Payload: []byte("p")}).Append(nil, 5); !bytes.Equal(b.broker.received(), want) {
			t.Errorf("the broker got % x, want % x", b.broker.received(), want)
		}
	})
}

// TestMaximumPacketSizeOfAMappedClient: the CONNACK has the broker's limit, less the bytes by
// which the map can make a PUBLISH grow.
func TestMaximumPacketSizeOfAMappedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Topics = mapOf(t, topicmap.Rule{Device: "me/#", Broker: "devices/${subject}/#"})
		b.policy.Authorizer = grantOf(authz.Grant{Subject: "alpha"})
		b.broker.answer.Properties = packets.Properties(nil).WithMaximumPacketSize(1000)
		_, ack, err := b.login(with(5, "d", goodToken))
		// Topic and response topic grow by len("devices/alpha")-len("me"), two lengths by a byte.
		if n, _ := ack.Properties.MaximumPacketSize(); err != nil || n != 1000-2*11-2 {
			t.Errorf("Maximum Packet Size %d, %v", n, err)
		}
	})
}

// TestSubjectThatCannotBeMapped is refused, unless it is a superuser, who has no map.
func TestSubjectThatCannotBeMapped(t *testing.T) {
	for name, tt := range map[string]struct {
		grant authz.Grant
		code  packets.ReasonCode
	}{
		"subject with a slash": {authz.Grant{Subject: "a/b"}, packets.ClientIDNotValid},
		"superuser":            {authz.Grant{Subject: "a/b", Superuser: true}, packets.Success},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Topics = mapOf(t, topicmap.Rule{Device: "me/#", Broker: "devices/${subject}/#"})
				b.policy.Authorizer = grantOf(tt.grant)
				if _, ack, err := b.login(with(5, "d", goodToken)); err != nil || ack.Code != tt.code {
					t.Errorf("CONNACK %v, %v", ack.Code, err)
				}
				if tt.code != packets.Success && b.lastRefusal().Reason != TopicNotUsable {
					t.Errorf("reason %s", b.lastRefusal().Reason)
				}
			})
		})
	}
}

// TestRulesOfThePolicy count for grants that have none.
func TestRulesOfThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		acl, err := authz.NewACL(authz.DenyRest, authz.Rule{Publish: true, Topics: []string{"devices/${subject}/#"}})
		if err != nil {
			t.Fatal(err)
		}
		b.policy.ACL = acl
		b.policy.Authorizer = grantOf(authz.Grant{Subject: "alpha"})
		c := b.mustLogin(with(5, "d", goodToken))
		c.Send((&packets.Publish{Topic: []byte("devices/other/x"), QoS: 1, PacketID: 9}).Append(nil, 5))
		if raw, err := packets.ReadPacket(c, 100); err != nil || !bytes.Equal(raw, []byte{0x40, 3, 0, 9, 0x87}) {
			t.Errorf("answer % x, %v; want PUBACK 0x87", raw, err)
		}
	})
}

// changing is an Authorizer that gives one grant to devices that connect, and another one at
// every recheck.
func changing(first, later authz.Grant) authorizerFunc {
	return func(_ context.Context, r authz.Request) (*authz.Grant, error) {
		if r.Purpose == authz.Recheck {
			return &later, nil
		}
		return &first, nil
	}
}

func aclOf(t testing.TB, rest authz.NoMatch, topics ...string) *authz.ACL {
	t.Helper()
	var rules []authz.Rule
	for _, topic := range topics {
		rules = append(rules, authz.Rule{Publish: true, Subscribe: true, Topics: []string{topic}})
	}
	acl, err := authz.NewACL(rest, rules...)
	if err != nil {
		t.Fatal(err)
	}
	return acl
}

// TestRightsThatChange are swapped under a session if it may keep what it has.
func TestRightsThatChange(t *testing.T) {
	attrs := func(site string) map[string]string { return map[string]string{"site": site, "firmware": site} }
	grant := func(acl *authz.ACL, site string) authz.Grant {
		return authz.Grant{Subject: "alpha", ACL: acl, Attrs: attrs(site)}
	}
	two, a, bySite := aclOf(t, authz.DenyRest, "a", "b"), aclOf(t, authz.DenyRest, "a"), aclOf(t, authz.DenyRest, "${attrs.site}/#")
	siteMap := mapOf(t, topicmap.Rule{Device: "me/#", Broker: "${attrs.site}/${subject}/#"})
	subjectMap := mapOf(t, topicmap.Rule{Device: "me/#", Broker: "devices/${subject}/#"})
	for name, tt := range map[string]struct {
		first, later authz.Grant
		topics       *topicmap.Map
		will         string
		resumed      bool
		subscribe    string
		publish      string // allowed afterwards
		ends, silent bool   // silent: the broker does not publish the will
	}{
		"wider":                                 {first: grant(a, "x"), later: grant(two, "x"), subscribe: "a", publish: "b"},
		"narrower, nothing subscribed":          {first: grant(two, "x"), later: grant(a, "x"), publish: "a"},
		"narrower, another subscription":        {first: grant(two, "x"), later: grant(a, "x"), subscribe: "a", publish: "a"},
		"narrower, its subscription":            {first: grant(two, "x"), later: grant(a, "x"), subscribe: "b", ends: true},
		"narrower, its subscription and a will": {first: grant(two, "x"), later: grant(a, "x"), will: "a", subscribe: "b", ends: true},
		"narrower, its will":                    {first: grant(two, "x"), later: grant(a, "x"), will: "b", ends: true, silent: true},
		"narrower, resumed":                     {first: grant(two, "x"), later: grant(a, "x"), resumed: true, ends: true},
		"wider, resumed":                        {first: grant(a, "x"), later: grant(two, "x"), resumed: true, publish: "b"},
		"none any more":                         {first: grant(a, "x"), later: grant(nil, "x"), resumed: true, subscribe: "a", publish: "z"},
		"rules where there were none":           {first: grant(nil, "x"), later: grant(a, "x"), ends: true, silent: true},
		"an attribute in rules":                 {first: grant(bySite, "north"), later: grant(bySite, "south"), publish: "south/x"},
		"an attribute in rules, subscribed":     {first: grant(bySite, "north"), later: grant(bySite, "south"), subscribe: "north/x", ends: true},
		"an attribute without rules":            {first: grant(nil, "x"), later: grant(nil, "y"), publish: "z"},
		"an attribute in the map":               {first: grant(nil, "north"), later: grant(nil, "south"), topics: siteMap, publish: "me/x"},
		"an attribute in the map, subscribed":   {first: grant(nil, "north"), later: grant(nil, "south"), topics: siteMap, subscribe: "me/x", ends: true},
		"an attribute in the map, will":         {first: grant(nil, "north"), later: grant(nil, "south"), topics: siteMap, will: "me/x", ends: true, silent: true},
		"an attribute in the map, resumed":      {first: grant(nil, "north"), later: grant(nil, "south"), topics: siteMap, resumed: true, ends: true},
		"an attribute besides the map":          {first: grant(nil, "north"), later: grant(nil, "south"), topics: subjectMap, resumed: true, subscribe: "me/x", publish: "me/x"},
		"an attribute that cannot be a level":   {first: grant(nil, "north"), later: grant(nil, "a/b"), topics: siteMap, ends: true, silent: true},
		"a gateway loses that":                  {first: authz.Grant{Subject: "alpha", Gateway: true}, later: grant(nil, "x"), ends: true},
		"a device becomes a gateway":            {first: grant(a, "x"), later: authz.Grant{Subject: "alpha", Gateway: true, ACL: a}, ends: true},
		"a reader becomes a device":             {first: authz.Grant{Subject: "alpha", Role: authz.RoleReader}, later: grant(nil, "x"), ends: true},
		"a device becomes a reader":             {first: grant(nil, "x"), later: authz.Grant{Subject: "alpha", Role: authz.RoleReader}, ends: true, silent: true},
		"a device with rules becomes a reader":  {first: grant(a, "x"), later: authz.Grant{Subject: "alpha", Role: authz.RoleReader, ACL: a}, ends: true},
		"the same, with a will":                 {first: grant(a, "x"), later: authz.Grant{Subject: "alpha", Role: authz.RoleReader, ACL: a}, will: "a", ends: true, silent: true},
		"a superuser loses that":                {first: authz.Grant{Subject: "alpha", Superuser: true}, later: grant(nil, "x"), topics: subjectMap, ends: true, silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Recheck, b.policy.Topics = time.Minute, tt.topics
				b.policy.Authorizer = changing(tt.first, tt.later)
				b.broker.answer.SessionPresent = tt.resumed
				p := with(4, "d", goodToken)
				p.CleanStart = !tt.resumed
				if p.HasWill = tt.will != ""; p.HasWill {
					p.Will.Topic = tt.will
				}
				c := b.mustLogin(p)
				if tt.subscribe != "" {
					s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: 1}
					s.Add(tt.subscribe, 0)
					c.Send(s.Append(nil, 4))
					if _, err := packets.ReadPacket(c, 100); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(3 * time.Minute)
				if live := b.srv.Stats().Sessions; (live == 0) != tt.ends {
					t.Fatalf("%d sessions are left", live)
				}
				if tt.ends {
					if end := b.lastEnd(); !errors.Is(end.Err, ErrRightsChanged) && !errors.Is(end.Err, ErrWillWithdrawn) {
						t.Errorf("the session ended with %v", end.Err)
					}
					if got := b.broker.received(); bytes.HasSuffix(got, []byte{0xe0, 0}) != tt.silent {
						t.Errorf("the broker got % x, DISCONNECT wanted: %v", got, tt.silent)
					}
					return
				}
				message := (&packets.Publish{Topic: []byte(tt.publish)}).Append(nil, 4)
				c.Send(message)
				if raw, err := packets.ReadPacket(c, 100); err != nil || !bytes.Equal(raw, message) {
					t.Errorf("the client got back % x, %v; want % x", raw, err, message)
				}
			})
		})
	}
}

// TestNarrowerRulesOfMQTT31: a CONNACK of MQTT 3.1 never says that the broker has kept a session, so
// what a client may be subscribed to that has not asked for a clean one is not known.
func TestNarrowerRulesOfMQTT31(t *testing.T) {
	for _, clean := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.policy.Recheck = time.Minute
			b.policy.Authorizer = changing(authz.Grant{Subject: "alpha", ACL: aclOf(t, authz.DenyRest, "a", "b")}, authz.Grant{Subject: "alpha", ACL: aclOf(t, authz.DenyRest, "a")})
			p := with(3, "d", goodToken)
			p.CleanStart = clean
			b.mustLogin(p)
			time.Sleep(3 * time.Minute)
			if live := b.srv.Stats().Sessions == 1; live != clean {
				t.Errorf("clean session %v: live %v", clean, live)
			}
		})
	}
}

// TestNarrowerRulesOfMQTT5: the client learns why with 0x98.
func TestNarrowerRulesOfMQTT5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Recheck = time.Minute
		b.broker.answer.SessionPresent = true
		b.policy.Authorizer = changing(authz.Grant{Subject: "alpha", ACL: aclOf(t, authz.DenyRest, "a", "b")}, authz.Grant{Subject: "alpha", ACL: aclOf(t, authz.DenyRest, "a")})
		p := with(5, "d", goodToken)
		p.CleanStart = false
		c := b.mustLogin(p)
		if raw, err := packets.ReadPacket(c, 10); err != nil || !bytes.Equal(raw, []byte{0xe0, 0x01, 0x98}) {
			t.Errorf("got % x, %v; want the session to end", raw, err)
		}
	})
}
