package proxy

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

func mapOf(t *testing.T, rules ...topicmap.Rule) *topicmap.Map {
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

// TestMappedClientKnowsHowLargeItsPacketsMayBe: the broker's limit less what a PUBLISH may
// grow by.
func TestMappedClientKnowsHowLargeItsPacketsMayBe(t *testing.T) {
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

// TestWhoseTopicsCannotBeMapped is refused, and a superuser has no map.
func TestWhoseTopicsCannotBeMapped(t *testing.T) {
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

// TestAttributesThatChange end a session only if its topics move with them.
func TestAttributesThatChange(t *testing.T) {
	for name, tt := range map[string]struct {
		changed string
		ends    bool
	}{"in the map": {"site", true}, "elsewhere": {"firmware", false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Recheck = time.Minute
				b.policy.Topics = mapOf(t, topicmap.Rule{Device: "me/#", Broker: "${attrs.site}/${subject}/#"})
				b.policy.Authorizer = authorizerFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
					attrs := map[string]string{"site": "north", "firmware": "1"}
					if r.Purpose == authz.Recheck {
						attrs[tt.changed] = "2"
					}
					return &authz.Grant{Subject: "alpha", Attrs: attrs}, nil
				})
				b.mustLogin(with(5, "d", goodToken))
				time.Sleep(3 * time.Minute)
				if live := b.srv.Stats().Sessions; (live == 0) != tt.ends {
					t.Errorf("%d sessions are left", live)
				}
			})
		})
	}
}
