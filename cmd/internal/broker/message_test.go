package broker

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

func TestOrdinaryTopics(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		for qos := byte(0); qos <= 2; qos++ {
			b, m := newBroker(t, nil)
			sub := connect(t, b, "s", login{version: version, id: "s"})
			if code := sub.subscribe("home/+/temp", qos); code != qos {
				t.Fatalf("SUBACK code %#x, want %d", code, qos)
			}
			pub := connect(t, b, "p", login{version: version, id: "p"})
			pub.publish(message{topic: "home/kitchen/temp", payload: "21", qos: 2})
			pub.publish(message{topic: "home/kitchen/light", payload: "on", qos: 2})
			if got := sub.take(); got.topic != "home/kitchen/temp" || got.payload != "21" || got.qos != qos || got.retain {
				t.Errorf("QoS %d: got %+v", qos, got)
			}
			sub.quiet()
			sub.Send(packet(tUnsubscribe|2, u16(4), sub.props(nil), str("home/+/temp")))
			if f := sub.Expect(packets.UNSUBACK); f.PacketID() != 4 {
				t.Errorf("UNSUBACK id %d", f.PacketID())
			}
			pub.publish(message{topic: "home/kitchen/temp", payload: "22", qos: 1})
			sub.quiet()
			if len(m.records()) != 0 {
				t.Errorf("stored %q", m.records())
			}
		}
	})
}

func TestRetained(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		pub := connect(t, b, "p", login{version: version, id: "p"})
		pub.publish(message{topic: "state/a", payload: "1", qos: 1, retain: true})
		pub.publish(message{topic: "state/b", payload: "2", qos: 1, retain: true})
		pub.publish(message{topic: "state/b", qos: 1, retain: true})
		if s := b.Stats(); s.Retained != 1 {
			t.Errorf("%d retained, want 1", s.Retained)
		}
		sub := connect(t, b, "s", login{version: version, id: "s"})
		sub.subscribe("#", 1)
		if got := sub.take(); got.topic != "state/a" || got.payload != "1" || !got.retain {
			t.Errorf("got %+v", got)
		}
		sub.quiet()
	})
}

func TestRetainedMessagesAreBounded(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.DeviceMemory = 1 << 30 })
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	for i := range maxRetained {
		pub.Send(pub.encode(message{topic: fmt.Sprintf("%d", i), payload: "x", retain: true}))
	}
	pub.publish(message{topic: "0", payload: "y", qos: 1, retain: true})
	pub.Send(pub.encode(message{topic: "one more", payload: "x", qos: 1, id: 1, retain: true}))
	pub.ExpectAck(packets.PUBACK, 1, 0x97)
	pub.publish(message{topic: "one more", payload: "x", qos: 1})
	if s := b.Stats(); s.Retained != maxRetained || s.Refused != 1 {
		t.Errorf("%d retained, %d refused", s.Retained, s.Refused)
	}
}

func TestLargePayload(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		payload := big(1 << 20)
		sub := connect(t, b, "s", login{version: version, id: "s"})
		sub.subscribe("big", 1)
		pub := connect(t, b, "p", login{version: version, id: "p"})
		pub.publish(message{topic: "big", payload: payload, qos: 1})
		if got := sub.take(); got.payload != payload {
			t.Errorf("got %d bytes, want %d", len(got.payload), len(payload))
		}
		pub.publish(message{topic: "v1/devices/me/telemetry", payload: payload, qos: 1})
		if got := m.records(); len(got) != 1 || got[0].payload != payload {
			t.Error("1 MiB of telemetry not stored as it was sent")
		}
	})
}

func TestUserPropertiesReachSubscribers(t *testing.T) {
	b, _ := newBroker(t, nil)
	// Request Problem Information 0 does not concern PUBLISH.
	sub := connect(t, b, "s", login{version: 5, id: "s", props: []byte{0x17, 0}})
	sub.subscribe("x", 0)
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	props := join([]byte{0x01, 1, 0x26}, str("k"), str("v"))
	pub.publish(message{topic: "x", payload: "1", props: props})
	if got := sub.take(); !slices.Equal(got.props, props) {
		t.Errorf("properties % x, want % x", got.props, props)
	}
}

func TestUserPropertiesAreNotEchoed(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{version: 5, id: "c"})
	user := join([]byte{0x26}, str("k"), str("v"))
	c.Send(c.encode(message{topic: "x", qos: 1, id: 1, props: user}))
	if f := c.Expect(packets.PUBACK); len(f.Body()) != 2 {
		t.Errorf("PUBACK % x, want the identifier alone", f.Body())
	}
	c.Send(c.encode(message{topic: "x", qos: 2, id: 2, props: user}))
	if f := c.Expect(packets.PUBREC); len(f.Body()) != 2 {
		t.Errorf("PUBREC % x, want the identifier alone", f.Body())
	}
	c.Send(packet(tPubrel|2, u16(2)))
	c.Expect(packets.PUBCOMP)
	c.Send(packet(tSubscribe|2, u16(3), sized(user), str("y"), []byte{0}))
	if f := c.Expect(packets.SUBACK); !bytes.Equal(f.Body(), []byte{0, 3, 0, 0}) {
		t.Errorf("SUBACK % x", f.Body())
	}
	c.Send(packet(tUnsubscribe|2, u16(4), sized(user), str("y")))
	if f := c.Expect(packets.UNSUBACK); !bytes.Equal(f.Body(), []byte{0, 4, 0, 0}) {
		t.Errorf("UNSUBACK % x", f.Body())
	}
}

func TestOutboundTopicAliases(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: join(prop32(0x11, 3600), []byte{0x22, 0, 10})}
	sub := connect(t, b, "d", l)
	sub.subscribe("x", 1)
	pub := connect(t, b, "p", login{id: "p"})
	for range 3 {
		pub.publish(message{topic: "x", qos: 1})
	}
	for range 2 {
		for range 3 {
			if got := sub.receive(); got.topic != "x" || len(got.props) != 0 {
				t.Errorf("got %+v, want topic x and no properties", got)
			}
		}
		sub = connect(t, b, "d", l)
	}
}
