package broker

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

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
			for f, err := c.ReadPacket(); err == nil && f.Type() == packets.PUBLISH; f, err = c.ReadPacket() {
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

func TestSharedSubscriptionPrefersConnectedClients(t *testing.T) {
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
	sub.Ping()
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
		sub.Send(packet(tSubscribe|2, u16(9), sized([]byte{0x0B, byte(id + 1)}), str(filter), []byte{0}))
		sub.Expect(packets.SUBACK)
		if got := sub.take(); !slices.Equal(got.props, []byte{0x0B, byte(id + 1)}) {
			t.Errorf("retained message has properties % x", got.props)
		}
	}
	for range 20 { // mochi keeps them in a map
		pub.publish(message{topic: "a", payload: "2", qos: 1})
		if got := sub.take(); !slices.Equal(got.props, []byte{0x0B, 1, 0x0B, 2}) {
			t.Fatalf("message has properties % x, want both identifiers in order", got.props)
		}
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
		c.Send(packet(tSubscribe|2, u16(1), c.props(nil), filters))
		codes := c.Expect(packets.SUBACK).Body()[2+len(c.props(nil)):]
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

func TestDeliveryDoesNotAskForAccess(t *testing.T) {
	// What a subscriber may not read is never published, so no delivery has to be checked.
	for _, topic := range []string{"$SYS/x", "$x", "$share/g/x"} {
		if routeOf(topic) != routeRefused {
			t.Errorf("%q can be published", topic)
		}
	}
}
