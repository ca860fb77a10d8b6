package broker

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

func TestConnackAnnouncesTheLimits(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.SessionExpiry = time.Hour })
	_, ack := connack(t, b, "d", login{version: 5, id: "c", props: prop32(0x11, math.MaxUint32)})
	for name, prop := range map[string][]byte{
		"Maximum Packet Size": prop32(0x27, defaultMaxPacket), "Receive Maximum": {0x21, 0, receiveMax}, "Session Expiry Interval": prop32(0x11, 3600),
	} {
		if !bytes.Contains(ack.Properties, prop) {
			t.Errorf("CONNACK % x does not tell the %s", []byte(ack.Properties), name)
		}
	}
	for _, version := range []byte{3, 4} {
		if _, ack := connack(t, b, "d", login{version: version, id: "c4"}); ack.SessionPresent || ack.Code != packets.Success {
			t.Errorf("CONNACK of version %d = %+v", version, ack)
		}
	}
}

func TestConnectTimeout(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.ConnectTimeout = 10 * time.Millisecond })
	c := dial(t, b, "d")
	c.Send(login{version: 4, id: "c"}.encode()[:5])
	c.ExpectEnd()
	if s := b.Stats(); s.Clients != 0 {
		t.Errorf("%d clients", s.Clients)
	}
}

func TestKeepAlive(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.ConnectTimeout = 500 * time.Millisecond })
	// A busy machine may need longer than that, and then the client tries again.
	inTime := func(l login) (c *client) {
		eventually(t, "the CONNECT comes in time", func() bool {
			c = dial(t, b, "d")
			connect := l.connect()
			c.Level = connect.Level
			_, _ = c.Write(connect.Append(nil))
			ack, err := c.ReadConnack()
			return err == nil && ack.Code == packets.Success
		})
		return c
	}
	forever := inTime(login{id: "0"})
	var long []*client
	for _, seconds := range []uint16{43690, 43691, math.MaxUint16} { // 43,691 and a half of it exceed 16 bits
		long = append(long, inTime(login{id: fmt.Sprint(seconds), keepAlive: seconds}))
	}
	began := time.Now()
	brief := inTime(login{version: 5, id: "1", keepAlive: 1})
	old := inTime(login{version: 4, id: "2", keepAlive: 1})
	if f := brief.Expect(packets.DISCONNECT); f.Body()[0] != 0x8D {
		t.Errorf("DISCONNECT code %#x, want 0x8D", f.Body()[0])
	}
	brief.ExpectEnd()
	old.ExpectEnd()
	if passed := time.Since(began); passed < 1400*time.Millisecond {
		t.Errorf("closed after %v, want one and a half seconds", passed)
	}
	for _, c := range append(long, forever) {
		c.Ping()
	}
}

func TestBridge(t *testing.T) {
	for _, version := range []byte{3, 4} {
		b, _ := newBroker(t, nil)
		state := &lastWill{topic: bridgeState + "far.c/state", payload: "0", qos: 1, retain: true}
		bridge := connect(t, b, "far", login{version: version | bridgeBit, id: "bridge", will: state})
		bridge.publish(message{topic: state.topic, payload: "1", qos: 1, retain: true})
		bridge.subscribe("#", 1)
		bridge.publish(message{topic: "x", payload: "from the bridge", qos: 1})
		bridge.Ping() // its own messages would run in circles
		pub := connect(t, b, "p", login{id: "p"})
		pub.publish(message{topic: "x", payload: "to the bridge", qos: 1, retain: true})
		if got := bridge.take(); got.payload != "to the bridge" || !got.retain {
			t.Errorf("got %+v", got)
		}
		bridge.Conn.Close()
		eventually(t, "the bridge is gone", func() bool { return b.open() == 1 })
		if s := b.Stats(); s.Retained != 1 || s.Refused != 2 {
			t.Errorf("stats %+v, want its state refused twice and not retained", s)
		}
	}
}

func TestEmptyClientID(t *testing.T) {
	b, _ := newBroker(t, nil)
	one, two := connect(t, b, "d", login{}), connect(t, b, "d", login{})
	one.quiet()
	two.quiet()
	_, ack := connack(t, b, "d", login{version: 5})
	if !strings.Contains(string(ack.Properties), "\x12\x00\x14") { // Assigned Client Identifier of 20 bytes
		t.Errorf("CONNACK % x has no assigned client identifier", []byte(ack.Properties))
	}
	c, ack := connack(t, b, "d", login{persist: true})
	if ack.Code != 2 {
		t.Errorf("no client identifier and no clean session: code %d, want 2", ack.Code)
	}
	c.ExpectEnd()
}

func TestSecondConnectIsAProtocolError(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		witness := connect(t, b, "w", login{id: "w"})
		witness.subscribe("wills", 0)
		l := login{version: version, id: "c", will: &lastWill{topic: "wills", payload: "gone"}}
		c := connect(t, b, "d", l)
		c.Send(l.encode())
		if version == 5 {
			if f := c.Expect(packets.DISCONNECT); f.Body()[0] != 0x82 {
				t.Errorf("DISCONNECT code %#x, want 0x82", f.Body()[0])
			}
		}
		c.ExpectEnd()
		if got := witness.take(); got.payload != "gone" {
			t.Errorf("will = %+v", got)
		}
		witness.quiet() // once
	})
}

func TestFirstPacketMustBeConnect(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := dial(t, b, "d")
	c.Send([]byte{tPingreq, 0})
	c.ExpectEnd()
}

func TestMalformedConnectOfOldClientsHasNoAnswer(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := dial(t, b, "d")
	c.Send(packet(tConnect, str("MQTT"), []byte{4, 0x03}, u16(0), str("c"))) // reserved flag
	c.ExpectEnd()
}

func TestUnknownAndUnexpectedPackets(t *testing.T) {
	for name, b := range map[string][]byte{
		"CONNACK": {tConnack, 2, 0, 0}, "reserved": {0x00, 0}, "AUTH": {0xF0, 0}, "AUTH with properties": {0xF0, 2, 0x18, 0}, "bad flags": {tPingreq | 1, 0}, "QoS 3": {tPublish | 6, 3, 0, 1, 'x'},
	} {
		t.Run(name, func(t *testing.T) {
			broker, _ := newBroker(t, nil)
			c := connect(t, broker, "d", login{version: 5, id: "c"})
			c.Send(b)
			f, err := c.ReadPacket()
			if err == nil && f.Type() == packets.DISCONNECT {
				_, err = c.ReadPacket()
			}
			if err == nil {
				t.Fatalf("got packet %#x, want the connection closed", f[0])
			}
		})
	}
}

func TestOversizePacketClosesTheConnection(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.MaxPacket = 2000 })
	c, ack := connack(t, b, "d", login{version: 5, id: "c"})
	if !bytes.Contains(ack.Properties, prop32(0x27, 2000)) {
		t.Errorf("CONNACK % x does not announce a maximum packet size of 2000", []byte(ack.Properties))
	}
	c.publish(message{topic: "x", payload: big(1900), qos: 1})
	c.Send(c.encode(message{topic: "x", payload: big(2000), qos: 1, id: 1})[:10]) // refused from its header
	c.ExpectEnd()
}

func TestDecoderPanicEndsOneConnection(t *testing.T) {
	b, _ := newBroker(t, nil)
	other := connect(t, b, "other", login{id: "o"})
	other.subscribe("wills", 0)
	c := connect(t, b, "d", login{version: 5, id: "c", will: &lastWill{topic: "wills", payload: "gone"}})
	c.subscribe("x", 1)
	c.Send([]byte{0x82, 0x06, 0x04, 0xd2, 0x00, 0x00, 0x01, 0x70}) // SUBSCRIBE without its options byte
	c.ExpectEnd()
	if got := other.take(); got.payload != "gone" {
		t.Errorf("will = %+v", got)
	}
	other.publish(message{topic: "v2/t", payload: "1", qos: 1})
	if s := b.Stats(); s.Panics != 1 || s.Clients != 1 || s.Sessions != 1 || s.Subscriptions != 1 {
		t.Errorf("stats %+v, want one panic and nothing left of its session", s)
	}
	connect(t, b, "d", login{version: 5, id: "c"})
}

func TestInboundTopicAliasIsRefused(t *testing.T) {
	b, _ := newBroker(t, nil)
	for _, topic := range []string{"x", ""} {
		c := connect(t, b, "d", login{version: 5, id: "c"})
		c.Send(c.encode(message{topic: topic, payload: "1", qos: 1, id: 1, props: []byte{0x23, 0, 1}}))
		if f := c.Expect(packets.DISCONNECT); f.Body()[0] != 0x94 {
			t.Errorf("DISCONNECT code %#x, want 0x94", f.Body()[0])
		}
		c.ExpectEnd()
	}
}
