package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
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
			sub.send(packet(tUnsubscribe|2, u16(4), sub.props(nil), str("home/+/temp")))
			if f := sub.expect(tUnsuback); f.id() != 4 {
				t.Errorf("UNSUBACK id %d", f.id())
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

// mochi drops what its queue of writes does not hold, which a burst of retained messages is sure to exceed.
func TestManyRetainedMessagesArrive(t *testing.T) {
	const n = 3000
	b, _ := newBroker(t, nil)
	pub := connect(t, b, "p", login{id: "p"})
	for i := range n {
		pub.send(pub.encode(message{topic: fmt.Sprintf("state/%d", i), payload: big(1000), retain: true}))
	}
	pub.ping()
	sub := connect(t, b, "s", login{id: "s"})
	sub.subscribe("state/+", 0)
	seen := make(map[string]bool)
	for len(seen) < n {
		f, err := sub.next()
		if err != nil {
			t.Fatalf("%d of %d messages, %d dropped: %v", len(seen), n, b.Stats().Dropped, err)
		}
		seen[sub.decode(f).topic] = true
	}
	sub.quiet()
}

func TestRetainedMessagesAreBounded(t *testing.T) {
	b, _ := newBroker(t, nil)
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	for i := range maxRetained {
		pub.send(pub.encode(message{topic: fmt.Sprintf("%d", i), payload: "x", retain: true}))
	}
	pub.publish(message{topic: "0", payload: "y", qos: 1, retain: true})
	pub.send(pub.encode(message{topic: "one more", payload: "x", qos: 1, id: 1, retain: true}))
	pub.acknowledged(tPuback, 1, 0x97)
	pub.publish(message{topic: "one more", payload: "x", qos: 1})
	if s := b.Stats(); s.Retained != maxRetained || s.Refused != 1 {
		t.Errorf("%d retained, %d refused", s.Retained, s.Refused)
	}
}

func TestPersistentSession(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		l := login{version: version, id: "s", persist: true}
		if version == 5 {
			l.props = prop32(0x11, 3600)
		}
		sub := connect(t, b, "s", l)
		sub.subscribe("jobs/#", 2)
		sub.disconnect()
		pub := connect(t, b, "p", login{version: version, id: "p"})
		for i := range 300 {
			pub.publish(message{topic: "jobs/x", payload: fmt.Sprint(i), qos: byte(1 + i%2), id: uint16(i + 1)})
		}
		sub, ack := connack(t, b, "s", l)
		if present := ack.body[0] == 1; present != (version != 3) {
			t.Errorf("session present = %t", present)
		}
		// An offline queue keeps its order.
		for i, got := range sub.takeAll(300) {
			if got.payload != fmt.Sprint(i) || got.qos != byte(1+i%2) {
				t.Fatalf("message %d = %+v", i, got)
			}
		}
		sub.quiet()
		l.persist = false
		if _, ack := connack(t, b, "s", l); ack.body[0] != 0 {
			t.Error("session present after a clean start")
		}
	})
}

func TestOfflineQueueIsBounded(t *testing.T) {
	b, _ := newBroker(t, nil)
	sub := connect(t, b, "s", login{id: "s", persist: true})
	sub.subscribe("x", 1)
	sub.disconnect()
	pub := connect(t, b, "p", login{id: "p"})
	for i := range maxQueued + 50 {
		pub.publish(message{topic: "x", payload: fmt.Sprint(i), qos: 1})
	}
	pub.quiet()
	if s := b.Stats(); s.Queued != maxQueued || s.Dropped != 50 {
		t.Errorf("%d queued, %d dropped", s.Queued, s.Dropped)
	}
}

func TestSessionBelongsToItsDevice(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		l := login{version: version, id: "same", persist: true, props: prop32(0x11, 3600)}
		first := connect(t, b, "first", l)
		first.subscribe("secret", 1)
		var want byte = 2
		if version == 5 {
			want = 0x85
		}
		for _, gone := range []bool{false, true} {
			if gone {
				first.disconnect()
			}
			thief, ack := connack(t, b, "thief", l)
			if ack.body[1] != want || ack.body[0] != 0 {
				t.Errorf("CONNACK = % x, want code %#x", ack.body[:2], want)
			}
			thief.expectClosed()
		}
		connect(t, b, "first", l)
	})
}

func TestTakeover(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		l := login{version: version, id: "s", persist: true, props: prop32(0x11, 3600)}
		first := connect(t, b, "d", l)
		first.subscribe("x", 1)
		second := connect(t, b, "d", l)
		if version == 5 {
			if f := first.expect(tDisconnect); f.body[0] != 0x8E {
				t.Errorf("DISCONNECT code %#x, want 0x8E", f.body[0])
			}
		}
		first.expectClosed() // without DISCONNECT before MQTT 5
		connect(t, b, "p", login{id: "p"}).publish(message{topic: "x", payload: "1", qos: 1})
		if got := second.take(); got.payload != "1" {
			t.Errorf("got %+v", got)
		}
		if s := b.Stats(); s.Sessions != 2 || s.Subscriptions != 1 {
			t.Errorf("stats %+v, want one session each and one subscription", s)
		}
	})
}

// Two connections with a new client identifier at the same time used to leave one of them outside mochi's books.
func TestConcurrentConnects(t *testing.T) {
	b, _ := newBroker(t, nil)
	const n = 20
	clients := make(chan *client, n)
	for range n {
		go func() {
			c := dial(t, b, "d")
			c.send(login{version: 4, id: "same"}.encode())
			clients <- c
		}()
	}
	for range n {
		<-clients
	}
	eventually(t, "one connection is left", func() bool {
		s := b.Stats()
		return s.Clients == 1 && s.Sessions == 1 && b.open() == 1
	})
}

func TestSharedSubscription(t *testing.T) {
	b, _ := newBroker(t, nil)
	one, two := connect(t, b, "a", login{version: 5, id: "1"}), connect(t, b, "b", login{version: 5, id: "2"})
	for _, c := range []*client{one, two} {
		if code := c.subscribe("$share/g/work/+", 0); code != 0 {
			t.Fatalf("SUBACK %#x", code)
		}
	}
	pub := connect(t, b, "p", login{id: "p"})
	for range 100 {
		pub.publish(message{topic: "work/x", payload: "1"})
	}
	pub.quiet()
	counts := make(chan int)
	for _, c := range []*client{one, two} {
		go func() {
			n := 0
			for f, err := c.next(); err == nil && f.kind() == tPublish; f, err = c.next() {
				n++
			}
			counts <- n
		}()
	}
	eventually(t, "all is delivered", func() bool { return b.Stats().MessagesOut >= 101 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if x, y := <-counts, <-counts; x+y != 100 || x == 0 || y == 0 {
		t.Errorf("%d and %d deliveries of 100 messages", x, y)
	}
}

func TestSharedSubscriptionPrefersWhoIsThere(t *testing.T) {
	b, _ := newBroker(t, nil)
	away := connect(t, b, "a", login{id: "away", persist: true})
	away.subscribe("$share/g/x", 1)
	away.disconnect()
	eventually(t, "it is away", func() bool { return b.open() == 0 })
	here := connect(t, b, "b", login{id: "here"})
	here.subscribe("$share/g/x", 1)
	pub := connect(t, b, "p", login{id: "p"})
	for range 50 {
		pub.publish(message{topic: "x", qos: 1})
		here.take()
	}
	here.disconnect()
	eventually(t, "its session is gone", func() bool { return b.Stats().Subscriptions == 1 })
	pub.publish(message{topic: "x", payload: "queued", qos: 1})
	if got := connect(t, b, "a", login{id: "away", persist: true}).take(); got.payload != "queued" {
		t.Errorf("got %+v", got)
	}
}

func TestSubscriptionOptions(t *testing.T) {
	b, _ := newBroker(t, nil)
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	pub.publish(message{topic: "a", payload: "of a itself", qos: 1, retain: true})
	sub := connect(t, b, "s", login{version: 5, id: "s"})
	const noLocal, asPublished, ifNew, never = 1 << 2, 1 << 3, 1 << 4, 2 << 4
	sub.subscribe("a", never)
	sub.ping()
	sub.subscribe("a/#", ifNew|asPublished|noLocal)
	if got := sub.take(); got.payload != "of a itself" || !got.retain {
		t.Errorf("got %+v, want the retained message", got)
	}
	sub.subscribe("a/#", ifNew|asPublished|noLocal)
	sub.publish(message{topic: "a/x", payload: "local", qos: 1})
	pub.publish(message{topic: "a/x", payload: "live", qos: 1, retain: true})
	if got := sub.take(); got.payload != "live" || !got.retain {
		t.Errorf("got %+v, want it as published", got)
	}
	sub.quiet()
}

func TestSubscriptionIdentifier(t *testing.T) {
	b, _ := newBroker(t, nil)
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	pub.publish(message{topic: "a", payload: "1", qos: 1, retain: true})
	sub := connect(t, b, "s", login{version: 5, id: "s"})
	for id, filter := range []string{"a", "+"} {
		sub.send(packet(tSubscribe|2, u16(9), sized([]byte{0x0B, byte(id + 1)}), str(filter), []byte{0}))
		sub.expect(tSuback)
		if got := sub.take(); !slices.Equal(got.props, []byte{0x0B, byte(id + 1)}) {
			t.Errorf("retained message has properties % x", got.props)
		}
	}
	pub.publish(message{topic: "a", payload: "2", qos: 1})
	if got := sub.take(); !slices.Equal(got.props, []byte{0x0B, 1, 0x0B, 2}) {
		t.Errorf("message has properties % x, want both identifiers", got.props)
	}
}

func TestSubscriptionsThatAreRefused(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		for filter, want := range map[string]byte{
			"$SYS/#": 0x87, "$share/g/$SYS/#": 0x87, "$x": 0x87, "a+": 0x8F, "a/#/b": 0x8F, tooDeep: 0x8F, "#": 1, "+/x": 1, "v1/devices/me/rpc/request/+": 1,
		} {
			if version != 5 && want > 2 {
				want = 0x80
			}
			if got := c.subscribe(filter, 1); got != want {
				t.Errorf("SUBACK for %q = %#x, want %#x", filter, got, want)
			}
		}
		c.quiet() // nothing of $SYS either
	})
}

func TestSubscriptionsAreBounded(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		var filters []byte
		for i := range maxSubscriptions + 2 {
			filters = append(join(filters, str(fmt.Sprint(i))), 0)
		}
		c.send(packet(tSubscribe|2, u16(1), c.props(nil), filters))
		codes := c.expect(tSuback).body[2+len(c.props(nil)):]
		want := byte(0x80)
		if version == 5 {
			want = 0x97
		}
		if got := codes[maxSubscriptions-1:]; !slices.Equal(got, []byte{0, want, want}) {
			t.Errorf("last codes % x, want success and then %#x", got, want)
		}
		if got := c.subscribe("7", 1); got != 1 {
			t.Errorf("changing a subscription: %#x", got)
		}
	})
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

func TestOversizePacketClosesTheConnection(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.MaxPacket = 2000 })
	c, ack := connack(t, b, "d", login{version: 5, id: "c"})
	if !hasProp(ack.body, prop32(0x27, 2000)) {
		t.Errorf("CONNACK % x does not announce a maximum packet size of 2000", ack.body)
	}
	c.publish(message{topic: "x", payload: big(1900), qos: 1})
	c.send(c.encode(message{topic: "x", payload: big(2000), qos: 1, id: 1})[:10]) // refused from its header
	c.expectClosed()
}

func TestBridge(t *testing.T) {
	for _, version := range []byte{3, 4} {
		b, _ := newBroker(t, nil)
		state := &lastWill{topic: bridgeState + "far.c/state", payload: "0", qos: 1, retain: true}
		bridge := connect(t, b, "far", login{version: version | bridgeBit, id: "bridge", will: state})
		bridge.publish(message{topic: state.topic, payload: "1", qos: 1, retain: true})
		bridge.subscribe("#", 1)
		bridge.publish(message{topic: "x", payload: "from the bridge", qos: 1})
		bridge.ping() // its own messages would run in circles
		pub := connect(t, b, "p", login{id: "p"})
		pub.publish(message{topic: "x", payload: "to the bridge", qos: 1})
		if got := bridge.take(); got.payload != "to the bridge" {
			t.Errorf("got %+v", got)
		}
		bridge.conn.Close()
		eventually(t, "the bridge is gone", func() bool { return b.open() == 1 })
		if s := b.Stats(); s.Retained != 0 || s.Refused != 2 {
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
	if !strings.Contains(string(ack.body), "\x12\x00\x14") { // Assigned Client Identifier of 20 bytes
		t.Errorf("CONNACK % x tells no assigned client identifier", ack.body)
	}
	c, ack := connack(t, b, "d", login{persist: true})
	if ack.body[1] != 2 {
		t.Errorf("no client identifier and no clean session: code %d, want 2", ack.body[1])
	}
	c.expectClosed()
}

func TestSecondConnectIsAProtocolError(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		witness := connect(t, b, "w", login{id: "w"})
		witness.subscribe("wills", 0)
		l := login{version: version, id: "c", will: &lastWill{topic: "wills", payload: "gone"}}
		c := connect(t, b, "d", l)
		c.send(l.encode())
		if version == 5 {
			if f := c.expect(tDisconnect); f.body[0] != 0x82 {
				t.Errorf("DISCONNECT code %#x, want 0x82", f.body[0])
			}
		}
		c.expectClosed()
		if got := witness.take(); got.payload != "gone" {
			t.Errorf("will = %+v", got)
		}
		witness.quiet() // once
	})
}

func TestFirstPacketMustBeConnect(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := dial(t, b, "d")
	c.send([]byte{tPingreq, 0})
	c.expectClosed()
}

func TestMalformedConnectOfOldClientsHasNoAnswer(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := dial(t, b, "d")
	c.send(packet(tConnect, str("MQTT"), []byte{4, 0x03}, u16(0), str("c"))) // reserved flag
	c.expectClosed()
}

func TestUnknownAndUnexpectedPackets(t *testing.T) {
	for name, b := range map[string][]byte{
		"CONNACK": {tConnack, 2, 0, 0}, "reserved": {0x00, 0}, "AUTH": {0xF0, 0}, "AUTH with properties": {0xF0, 2, 0x18, 0}, "bad flags": {tPingreq | 1, 0}, "QoS 3": {tPublish | 6, 3, 0, 1, 'x'},
	} {
		t.Run(name, func(t *testing.T) {
			broker, _ := newBroker(t, nil)
			c := connect(t, broker, "d", login{version: 5, id: "c"})
			c.send(b)
			f, err := c.next()
			if err == nil && f.kind() == tDisconnect {
				_, err = c.next()
			}
			if err == nil {
				t.Fatalf("got packet %#x, want the connection closed", f.first)
			}
		})
	}
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
