package broker

import (
	"fmt"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestProtocolErrorsEndTheConnection sends packets that mochi itself would accept. Each packet
// follows a message of QoS 1 with identifier 1 and one of QoS 2 with identifier 2 that the broker
// has sent and the device has not acknowledged.
func TestProtocolErrorsEndTheConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		v4, v5 []byte
	}{
		"PUBLISH without identifier":                {packet(tPublish|2, str("a"), u16(0)), packet(tPublish|2, str("a"), u16(0), []byte{0})},
		"SUBSCRIBE without identifier":              {packet(tSubscribe|2, u16(0), str("a"), []byte{0}), packet(tSubscribe|2, u16(0), []byte{0}, str("a"), []byte{0})},
		"UNSUBSCRIBE without identifier":            {packet(tUnsubscribe|2, u16(0), str("a")), packet(tUnsubscribe|2, u16(0), []byte{0}, str("a"))},
		"PUBREL without identifier":                 {packet(tPubrel|2, u16(0)), packet(tPubrel|2, u16(0))},
		"PUBACK without identifier":                 {packet(tPuback, u16(0)), packet(tPuback, u16(0))},
		"SUBSCRIBE with an empty filter":            {packet(tSubscribe|2, u16(9), str(""), []byte{0}), packet(tSubscribe|2, u16(9), []byte{0}, str(""), []byte{0})},
		"UNSUBSCRIBE with an empty filter":          {packet(tUnsubscribe|2, u16(9), str("")), packet(tUnsubscribe|2, u16(9), []byte{0}, str(""))},
		"PUBACK of QoS 2":                           {packet(tPuback, u16(2)), packet(tPuback, u16(2))},
		"PUBREC of QoS 1":                           {packet(tPubrec, u16(1)), packet(tPubrec, u16(1))},
		"PUBCOMP before PUBREC":                     {packet(tPubcomp, u16(2)), packet(tPubcomp, u16(2))},
		"DISCONNECT that raises a session expiry 0": {nil, packet(tDisconnect, []byte{0}, sized(prop32(0x11, 60)))},
	} {
		for version, bad := range map[byte][]byte{4: tt.v4, 5: tt.v5} {
			if bad == nil {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", name, version), func(t *testing.T) {
				b, _ := newBroker(t, nil)
				c := connect(t, b, "d", login{version: version, id: "c"})
				c.subscribe("to/c", 2)
				other := connect(t, b, "e", login{id: "o"})
				other.publish(message{topic: "to/c", qos: 1, id: 1})
				c.receive()
				other.publish(message{topic: "to/c", qos: 2, id: 2})
				c.receive()
				c.Send(bad)
				if version == 5 {
					if f := c.Expect(packets.DISCONNECT); f.Body()[0] != 0x82 {
						t.Errorf("DISCONNECT %#x, want 0x82", f.Body()[0])
					}
				}
				c.ExpectEnd()
			})
		}
	}
}

// TestAcknowledgementsThatAreNoErrors: the session may have forgotten the message, and a
// PUBREC may come twice.
func TestAcknowledgementsThatAreNoErrors(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{version: 5, id: "c"})
	c.subscribe("to/c", 2)
	for _, kind := range []byte{tPuback, tPubcomp} {
		c.Send(packet(kind, u16(77)))
	}
	other := connect(t, b, "e", login{id: "o"})
	other.publish(message{topic: "to/c", qos: 2, id: 2})
	id := c.receive().id
	for range 2 {
		c.Send(packet(tPubrec, u16(id)))
		c.Expect(packets.PUBREL)
	}
	c.Send(packet(tPubcomp, u16(id)))
	c.Ping()
}

// TestUnknownAuthenticationMethod: the proxy handles the methods that it knows and removes them
// from the CONNECT, so a method that arrives here is unknown.
func TestUnknownAuthenticationMethod(t *testing.T) {
	b, _ := newBroker(t, nil)
	if _, ack := connack(t, b, "d", login{version: 5, id: "c", props: append([]byte{0x15}, str("SCRAM-SHA-1")...)}); ack.Code != 0x8C {
		t.Errorf("CONNACK %#x, want 0x8C", ack.Code)
	}
}

// TestDevicesCannotCommandEachOther: devices cannot publish to the topics that devices of
// ThingsBoard subscribe to.
func TestDevicesCannotCommandEachOther(t *testing.T) {
	b, _ := newBroker(t, nil)
	victim := connect(t, b, "victim", login{version: 5, id: "v"})
	for _, filter := range []string{"#", "v2/r/req/+", "v2/a/res/+", "v2/fw/response/+/chunk/+", "/provision/#", "$share/g/v2/#"} {
		victim.subscribe(filter, 1)
	}
	attacker := connect(t, b, "attacker", login{version: 5, id: "a"})
	attacker.publish(message{topic: "v2/r/req/1", payload: `{"method":"reboot"}`, qos: 1}) // a call that only it gets an answer to
	for i, topic := range []string{"v2/a/res/1", "v2/fw/response/1/chunk/0", "v2/sw/response/1/chunk/0", "/provision/response", "v2"} {
		id := uint16(i + 1)
		attacker.Send(attacker.encode(message{topic: topic, payload: `{"method":"reboot"}`, qos: 1, id: id}))
		attacker.ExpectAck(packets.PUBACK, id, 0x90)
	}
	victim.quiet()
}
