package broker

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// stall subscribes and reads nothing more.
func stall(t *testing.T, b *Broker, l login, qos byte) *client {
	t.Helper()
	c := connect(t, b, "stalled", l)
	c.subscribe("x", qos)
	return c
}

func TestStalledSubscriberDoesNotStopPublishers(t *testing.T) {
	for qos := byte(0); qos <= 2; qos++ {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			b, _ := newBroker(t, nil)
			stalled := stall(t, b, login{id: "s"}, qos)
			pub := connect(t, b, "p", login{id: "p"})
			for range 3000 {
				pub.publish(message{topic: "x", payload: big(2000), qos: qos})
			}
			pub.publish(message{topic: "y", qos: 1})
			// The subscriber is still connected, and gets what was kept for it once it reads.
			if qos == 0 {
				stalled.takeAll(100)
			} else {
				stalled.takeAll(3000)
			}
			s := b.Stats()
			if slow := s.Dropped["slow"]; (slow > 0) != (qos == 0) || s.Clients != 2 {
				t.Errorf("stats %+v, want both connected, and messages dropped at QoS 0 alone", s)
			}
		})
	}
}

func TestStalledSubscriberIsDisconnected(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.WriteTimeout = 50 * time.Millisecond })
	stall(t, b, login{id: "s"}, 0)
	pub := connect(t, b, "p", login{id: "p"})
	for range 3000 {
		pub.publish(message{topic: "x", payload: big(2000)})
	}
	eventually(t, "the subscriber is disconnected", func() bool { return b.Stats().Clients == 1 })
	pub.Ping()
}

func TestTakeoverOfAStalledClient(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{id: "s", persist: true, keepAlive: 600}
	stall(t, b, l, 1)
	pub := connect(t, b, "p", login{id: "p"})
	const n = 2000
	for i := range n {
		pub.publish(message{topic: "x", payload: fmt.Sprint(i, " ", big(4000)), qos: 1})
	}
	again := connect(t, b, "stalled", l)
	for i, m := range again.takeAll(n) {
		if !strings.HasPrefix(m.payload, fmt.Sprint(i, " ")) {
			t.Fatalf("message %d starts with %.10q", i, m.payload)
		}
	}
}

func TestPacketIdentifiersOfBothDirections(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: prop32(0x11, 3600)}
	sub := connect(t, b, "d", l)
	sub.subscribe("x", 2)
	sub.disconnect()
	pub := connect(t, b, "p", login{id: "p"})
	for i := range 20 {
		pub.publish(message{topic: "x", payload: fmt.Sprint(i), qos: byte(1 + i%2), id: uint16(i + 1)})
	}
	sub = connect(t, b, "d", l)
	ids := make(map[uint16]bool)
	for range 20 {
		ids[sub.receive().id] = true
	}
	// The client counts from 1 as well and knows nothing of the broker's numbers.
	for id := uint16(1); id <= 20; id++ {
		if !ids[id] {
			t.Fatalf("identifier %d is not in use: this tests nothing", id)
		}
		sub.publish(message{topic: "v2/t", payload: "1", qos: byte(1 + id%2), id: id})
	}
	sub.Send(packet(tSubscribe|2, u16(3), sub.props(nil), str("y"), []byte{1}))
	if f := sub.Expect(packets.SUBACK); f.PacketID() != 3 || f.Body()[len(f.Body())-1] != 1 {
		t.Errorf("SUBACK % x, want identifier 3 and QoS 1", f.Body())
	}
	sub.Conn.Close()
	again := connect(t, b, "d", l)
	for i, m := range again.takeAll(20) {
		if m.payload != fmt.Sprint(i) || !m.dup {
			t.Errorf("message %d = %+v, want it again", i, m)
		}
	}
}

func TestOfflineQueueKeepsItsOrder(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{id: "s", persist: true}
	sub := connect(t, b, "d", l)
	sub.subscribe("x", 1)
	sub.disconnect()
	pub := connect(t, b, "p", login{id: "p"})
	const n = 500
	for i := range n {
		pub.publish(message{topic: "x", payload: fmt.Sprint(i), qos: 1})
	}
	for range 3 { // also when it was sent before and not acknowledged
		sub = connect(t, b, "d", l)
		for i := range n {
			if got := sub.receive(); got.payload != fmt.Sprint(i) {
				t.Fatalf("message %d = %+v", i, got)
			}
		}
	}
}

func TestReceiveMaximum(t *testing.T) {
	b, _ := newBroker(t, nil)
	const window, n = 5, 200
	l := login{version: 5, id: "s", persist: true, props: join(prop32(0x11, 3600), []byte{0x21, 0, window})}
	sub := connect(t, b, "d", l)
	sub.subscribe("x", 1)
	pub := connect(t, b, "p", login{id: "p"})
	for i := range n {
		pub.publish(message{topic: "x", payload: fmt.Sprint(i), qos: 1})
	}
	next := 0
	// windowed receives some messages, which must come in order, and never more than the
	// window before they are acknowledged.
	windowed := func(until int) {
		t.Helper()
		for next < until {
			var ids []uint16
			for range min(window, n-next) {
				m := sub.receive()
				if m.payload != fmt.Sprint(next) {
					t.Fatalf("message %d = %+v", next, m)
				}
				next++
				ids = append(ids, m.id)
			}
			sub.Ping()
			for _, id := range ids {
				sub.Send(packet(tPuback, u16(id)))
			}
		}
	}
	windowed(n / 4)
	for range window {
		sub.receive()
	}
	sub.Ping()
	sub.Conn.Close()
	// What was sent and not acknowledged comes again, and so does all that was held back.
	sub = connect(t, b, "d", l)
	windowed(n)
	sub.quiet()
	pub.Ping() // its last PUBACK counts as queued for an instant after it was sent
	if s := b.Stats(); s.Queued != 0 {
		t.Errorf("%d still queued", s.Queued)
	}
}

func TestReceiveMaximumWithQoS2(t *testing.T) {
	b, _ := newBroker(t, nil)
	sub := connect(t, b, "d", login{version: 5, id: "s", props: []byte{0x21, 0, 1}})
	sub.subscribe("x", 2)
	pub := connect(t, b, "p", login{id: "p"})
	const n = 50
	for i := range n {
		pub.publish(message{topic: "x", payload: fmt.Sprint(i), qos: 2})
	}
	for i := range n {
		m := sub.receive()
		if m.payload != fmt.Sprint(i) {
			t.Fatalf("message %d = %+v", i, m)
		}
		if i%3 == 0 { // refused, which ends the exchange
			sub.Send(packet(tPubrec, u16(m.id), []byte{0x80}))
			continue
		}
		sub.Send(packet(tPubrec, u16(m.id)))
		sub.ExpectAck(packets.PUBREL, m.id, 0)
		sub.Ping() // the window is still closed
		sub.Send(packet(tPubcomp, u16(m.id)))
	}
	sub.quiet()
}

// mochi's own flow control loses messages and never recovers its quota.
func TestFlowControlOfMochiIsOff(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: join(prop32(0x11, 3600), []byte{0x21, 0, 5})}
	off := func() {
		t.Helper()
		cl, ok := b.server.Clients.Get("s")
		if !ok {
			t.Fatal("no session")
		}
		for _, field := range []string{"sendQuota", "maximumSendQuota"} {
			if n := reflect.ValueOf(cl.State.Inflight).Elem().FieldByName(field).Int(); n != 0 {
				t.Errorf("%s = %d, want 0", field, n)
			}
		}
	}
	connect(t, b, "d", l).subscribe("x", 1)
	off()
	connect(t, b, "p", login{id: "p"}).publish(message{topic: "x", qos: 1})
	connect(t, b, "d", l).take() // with a queue, mochi starts its accounts anew
	off()
}

func TestMessageTooLargeForTheClient(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: join(prop32(0x11, 3600), prop32(0x27, 200))}
	sub := connect(t, b, "d", l)
	sub.subscribe("x", 1)
	pub := connect(t, b, "p", login{id: "p"})
	send := func() {
		pub.publish(message{topic: "x", payload: big(300), qos: 1})
		pub.publish(message{topic: "x", payload: "small", qos: 1})
	}
	send()
	if got := sub.take(); got.payload != "small" {
		t.Errorf("got %d bytes, want the small message", len(got.payload))
	}
	sub.disconnect()
	send()
	// It must not keep the session from being resumed either.
	sub = connect(t, b, "d", l)
	if got := sub.take(); got.payload != "small" {
		t.Errorf("got %d bytes, want the small message", len(got.payload))
	}
	sub.quiet()
	pub.Ping()
	if s := b.Stats(); s.Dropped["too_large"] != 2 || s.Queued != 0 {
		t.Errorf("stats %+v, want 2 dropped, nothing queued", s)
	}
}

func TestFanIn(t *testing.T) {
	b, _ := newBroker(t, nil)
	sub := connect(t, b, "s", login{version: 5, id: "s", props: []byte{0x21, 0, 20}})
	sub.subscribe("x", 1)
	const publishers, n = 4, 250 // what fits into one session's queue
	var publishing sync.WaitGroup
	defer publishing.Wait()
	for i := range publishers {
		pub := connect(t, b, "p", login{id: fmt.Sprint(i)})
		publishing.Go(func() {
			for j := range n {
				pub.publish(message{topic: "x", payload: fmt.Sprintf("%d %d", i, j), qos: 1})
			}
		})
	}
	next := make([]int, publishers)
	for range publishers * n {
		var i, j int
		m := sub.take()
		if _, err := fmt.Sscan(m.payload, &i, &j); err != nil || j != next[i] {
			t.Fatalf("got %q, want message %d of publisher %d", m.payload, next[i], i)
		}
		next[i]++
	}
	sub.quiet()
}

// TestBurstsReachALiveSubscriber: what waits for a subscriber that reads is bounded by its
// memory, not by a number of messages.
func TestBurstsReachALiveSubscriber(t *testing.T) {
	b, _ := newBroker(t, nil)
	sub := connect(t, b, "s", login{version: 5, id: "s", props: []byte{0x21, 0, 20}})
	sub.subscribe("x", 1)
	const publishers, n = 10, 400
	var publishing sync.WaitGroup
	defer publishing.Wait()
	for i := range publishers {
		pub := connect(t, b, "p", login{id: fmt.Sprint(i)})
		publishing.Go(func() {
			for j := range uint16(n) {
				pub.Send(pub.encode(message{topic: "x", payload: big(100), qos: 1, id: j + 1}))
			}
			for j := range uint16(n) {
				pub.ExpectAck(packets.PUBACK, j+1, 0)
			}
		})
	}
	publishing.Wait()
	sub.takeAll(publishers * n)
	eventually(t, "nothing is queued", func() bool { return b.Stats().Queued == 0 })
}

func TestRepeatedQoS2Publish(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		l := login{version: version, id: "c", persist: true, props: prop32(0x11, 3600)}
		c := connect(t, b, "d", l)
		msg := message{topic: "v2/t", payload: "1", qos: 2, id: 5}
		c.Send(c.encode(msg))
		c.ExpectAck(packets.PUBREC, 5, 0)
		c.Conn.Close()
		c = connect(t, b, "d", l)
		c.ExpectAck(packets.PUBREC, 5, 0) // mochi sends it again unasked, which does no harm
		msg.dup = true
		c.Send(c.encode(msg))
		c.ExpectAck(packets.PUBREC, 5, 0)
		c.Send(packet(tPubrel|2, u16(5)))
		c.ExpectAck(packets.PUBCOMP, 5, 0)
		if got := m.records(); !slices.Equal(got, []record{{"telemetry", "d", "1"}}) {
			t.Errorf("stored %q, want it once", got)
		}
	})
}

// Clients before MQTT 5 know no Receive Maximum, and mochi counts exchanges of both directions
// against its own.
func TestManyQoS2MessagesAtOnce(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{id: "c"})
	const n = 500
	for id := uint16(1); id <= n; id++ {
		c.Send(c.encode(message{topic: "x", qos: 2, id: id}))
	}
	for id := uint16(1); id <= n; id++ {
		c.ExpectAck(packets.PUBREC, id, 0)
	}
	for id := uint16(1); id <= n; id++ {
		c.Send(packet(tPubrel|2, u16(id)))
		c.ExpectAck(packets.PUBCOMP, id, 0)
	}
}

// Writing to a device that has gone must not lose what it has sent before.
func TestDataBeforeTheEndIsProcessed(t *testing.T) {
	b, m := newBroker(t, nil)
	const n = 1000
	for round := range 20 {
		c := connect(t, b, "d", login{id: "c"})
		c.subscribe("x", 0)
		var all []byte
		for range n / 2 {
			all = join(all, c.encode(message{topic: "x"}), c.encode(message{topic: "v2/t", payload: "1"}))
		}
		c.Send(all)
		c.Conn.Close() // with the answers unread
		eventually(t, "the connection has ended", func() bool { return b.open() == 0 })
		if got := len(m.records()); got != (round+1)*n/2 {
			t.Fatalf("%d messages stored, want %d", got, (round+1)*n/2)
		}
	}
}

// mochi drops what its queue of writes does not hold, which a burst of retained messages is
// sure to exceed.
func TestManyRetainedMessagesArrive(t *testing.T) {
	const n = 3000
	b, _ := newBroker(t, nil)
	pub := connect(t, b, "p", login{id: "p"})
	for i := range n {
		pub.Send(pub.encode(message{topic: fmt.Sprintf("state/%d", i), payload: big(1000), retain: true}))
	}
	pub.Ping()
	sub := connect(t, b, "s", login{id: "s"})
	sub.subscribe("state/+", 0)
	seen := make(map[string]bool)
	for len(seen) < n {
		f, err := sub.ReadPacket()
		if err != nil {
			t.Fatalf("%d of %d messages, dropped %v: %v", len(seen), n, b.Stats().Dropped, err)
		}
		seen[sub.decode(f).topic] = true
	}
	sub.quiet()
}
