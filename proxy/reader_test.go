package proxy

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestReaderOnlyReads: a reader publishes nothing and has no will, not even as a superuser. It
// subscribes on the broker's side of the map, within the rules of its grant.
func TestReaderOnlyReads(t *testing.T) {
	own := aclOf(t, authz.DenyRest, "devices/pump-1/#")
	for name, tt := range map[string]struct {
		grant            authz.Grant
		allowed, refused string
	}{
		"without rules": {authz.Grant{Subject: "alpha", Role: authz.RoleReader}, "devices/+/telemetry", "$SYS/#"},
		"superuser":     {authz.Grant{Subject: "alpha", Role: authz.RoleReader, Superuser: true}, "#", "$SYS/#"},
		"with rules":    {authz.Grant{Subject: "alpha", Role: authz.RoleReader, ACL: own}, "devices/pump-1/telemetry", "devices/+/telemetry"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Topics = mapOf(t, topicmap.Rule{Device: "me/#", Broker: "devices/${subject}/#"})
				b.policy.ACL = aclOf(t, authz.DenyRest, "me/#")
				b.policy.Authorizer = grantOf(tt.grant)
				p := with(5, "d", goodToken)
				p.HasWill, p.Will = true, packets.Will{Topic: "devices/pump-1/gone"}
				if _, ack, err := b.login(p); err != nil || ack.Code != packets.NotAuthorized || b.lastRefusal().Reason != WillTopic {
					t.Errorf("with a will: CONNACK %v, %v", ack.Code, err)
				}
				c := b.mustLogin(with(5, "d", goodToken))
				for _, topic := range []string{"me/x", "devices/pump-1/telemetry", "devices/alpha/telemetry", "a"} {
					c.Send((&packets.Publish{Topic: []byte(topic), QoS: 1, PacketID: 9}).Append(nil, 5))
					if raw, err := packets.ReadPacket(c, 100); err != nil || !bytes.Equal(raw, []byte{0x40, 3, 0, 9, 0x87}) {
						t.Errorf("answer to a message to %s: % x, %v; want PUBACK 0x87", topic, raw, err)
					}
				}
				subscribe := func(filter string) []byte {
					s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: 1}
					s.Add(filter, 1)
					c.Send(s.Append(nil, 5))
					raw, err := packets.ReadPacket(c, 1000)
					if err != nil {
						t.Fatal(err)
					}
					return raw
				}
				if raw := subscribe(tt.refused); packets.Type(raw[0]>>4) != packets.SUBACK || raw[len(raw)-1] != 0x87 {
					t.Errorf("answer to a subscription to %s: % x, want SUBACK 0x87", tt.refused, raw)
				}
				// The broker sends everything back.
				if raw := subscribe(tt.allowed); packets.Type(raw[0]>>4) != packets.SUBSCRIBE || !bytes.Contains(raw, []byte(tt.allowed)) {
					t.Errorf("the broker got % x, want the subscription to %s", raw, tt.allowed)
				}
			})
		})
	}
}
