package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tests of this file are named after what mochi-mqtt v2.7.9 does wrong when left alone.

func TestDecoderPanicEndsOneConnection(t *testing.T) {
	b, _ := newBroker(t, nil)
	other := connect(t, b, "other", login{id: "o"})
	other.subscribe("wills", 0)
	c := connect(t, b, "d", login{version: 5, id: "c", will: &lastWill{topic: "wills", payload: "gone"}})
	c.subscribe("x", 1)
	c.send([]byte{0x82, 0x06, 0x04, 0xd2, 0x00, 0x00, 0x01, 0x70}) // SUBSCRIBE without its options byte
	c.expectClosed()
	if got := other.take(); got.payload != "gone" {
		t.Errorf("will = %+v", got)
	}
	other.publish(message{topic: "v2/t", payload: "1", qos: 1})
	if s := b.Stats(); s.Panics != 1 || s.Clients != 1 || s.Sessions != 1 || s.Subscriptions != 1 {
		t.Errorf("stats %+v, want one panic and nothing left of its session", s)
	}
	connect(t, b, "d", login{version: 5, id: "c"})
}

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
			stalled.takeAll(100)
			if s := b.Stats(); s.Dropped == 0 || s.Clients != 2 {
				t.Errorf("stats %+v, want messages dropped and both connected", s)
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
	pub.ping()
}

func TestTakeoverOfAStalledClient(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{id: "s", persist: true, keepAlive: 600}
	stall(t, b, l, 1)
	pub := connect(t, b, "p", login{id: "p"})
	for i := range maxQueued {
		pub.publish(message{topic: "x", payload: fmt.Sprint(i, " ", big(4000)), qos: 1})
	}
	again := connect(t, b, "stalled", l)
	for i, m := range again.takeAll(maxQueued) {
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
	sub.send(packet(tSubscribe|2, u16(3), sub.props(nil), str("y"), []byte{1}))
	if f := sub.expect(tSuback); f.id() != 3 || f.body[len(f.body)-1] != 1 {
		t.Errorf("SUBACK % x, want identifier 3 and QoS 1", f.body)
	}
	sub.conn.Close()
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
	// windowed receives some messages, which must come in order and never more than the window before they are acknowledged.
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
			sub.ping()
			for _, id := range ids {
				sub.send(packet(tPuback, u16(id)))
			}
		}
	}
	windowed(n / 4)
	for range window {
		sub.receive()
	}
	sub.ping()
	sub.conn.Close()
	// What was sent and not acknowledged comes again, and so does all that was held back.
	sub = connect(t, b, "d", l)
	windowed(n)
	sub.quiet()
	if s := b.Stats(); s.Queued != 0 {
		t.Errorf("%d still queued", s.Queued)
	}
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

func TestNothingIsLostInTakeovers(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: prop32(0x11, 3600)}
	sub := connect(t, b, "d", l)
	sub.subscribe("x", 1)
	const n = 2000
	var publishing sync.WaitGroup
	defer publishing.Wait()
	pub := connect(t, b, "p", login{id: "p"})
	ahead := make(chan struct{}, maxQueued/2)
	publishing.Go(func() {
		for i := range n {
			ahead <- struct{}{}
			pub.publish(message{topic: "x", payload: fmt.Sprint(i), qos: 1})
		}
	})
	seen := make(map[string]bool)
	for len(seen) < n {
		sub = connect(t, b, "d", l)
		for range min(20, n-len(seen)) {
			if m := sub.take(); !seen[m.payload] {
				seen[m.payload] = true
				<-ahead
			}
		}
	}
}

// Sessions begin one at a time: mochi looks for the session to take over and notes the new one in separate steps.
func TestSessionsBeginOneAtATime(t *testing.T) {
	b, _ := newBroker(t, nil)
	other := connect(t, b, "o", login{id: "o"})
	b.sessions.RLock()
	c := dial(t, b, "d")
	c.send(login{version: 4, id: "c"}.encode())
	for range 100 {
		other.ping()
	}
	if s := b.Stats(); s.Sessions != 1 {
		t.Errorf("%d sessions, want the second to wait", s.Sessions)
	}
	b.sessions.RUnlock()
	c.expect(tConnack)
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
			sub.send(packet(tPubrec, u16(m.id), []byte{0x80}))
			continue
		}
		sub.send(packet(tPubrec, u16(m.id)))
		sub.acknowledged(tPubrel, m.id, 0)
		sub.ping() // the window is still closed
		sub.send(packet(tPubcomp, u16(m.id)))
	}
	sub.quiet()
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
	pub.ping()
	if s := b.Stats(); s.Dropped != 2 || s.Queued != 0 {
		t.Errorf("stats %+v, want 2 dropped, nothing queued", s)
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

func TestInboundTopicAliasIsRefused(t *testing.T) {
	b, _ := newBroker(t, nil)
	for _, topic := range []string{"x", ""} {
		c := connect(t, b, "d", login{version: 5, id: "c"})
		c.send(c.encode(message{topic: topic, payload: "1", qos: 1, id: 1, props: []byte{0x23, 0, 1}}))
		if f := c.expect(tDisconnect); f.body[0] != 0x94 {
			t.Errorf("DISCONNECT code %#x, want 0x94", f.body[0])
		}
		c.expectClosed()
	}
}

// Writing to a device that has gone must not lose what it sent before it went.
func TestLastWordsAreHeard(t *testing.T) {
	b, m := newBroker(t, nil)
	const n = 1000
	for round := range 20 {
		c := connect(t, b, "d", login{id: "c"})
		c.subscribe("x", 0)
		var all []byte
		for range n / 2 {
			all = join(all, c.encode(message{topic: "x"}), c.encode(message{topic: "v2/t", payload: "1"}))
		}
		c.send(all)
		c.conn.Close() // with the answers unread
		eventually(t, "the connection has ended", func() bool { return b.open() == 0 })
		if got := len(m.records()); got != (round+1)*n/2 {
			t.Fatalf("%d messages stored, want %d", got, (round+1)*n/2)
		}
	}
}

func TestLogLeak(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	})
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	for _, handler := range []slog.Handler{slog.NewTextHandler(w, options), slog.NewJSONHandler(w, options)} {
		b, _ := newBroker(t, func(o *Options) { o.Logger = slog.New(handler) })
		const secret = "hunter2"
		l := login{version: 5, id: secret + "id", will: &lastWill{topic: secret, payload: secret}}
		c := connect(t, b, "device-name", l)
		c.send(c.encode(message{topic: "v2/t", payload: "bad " + secret, qos: 1, id: 1}))
		c.expect(tPuback)
		c.send(l.encode()) // a protocol error, with everything in it
		c.expect(tDisconnect)
		c.expectClosed()
		c = connect(t, b, "device-name", l)
		c.send(c.encode(message{topic: secret + "#", payload: secret, qos: 1, id: 1}))
		c.expect(tDisconnect)
		c.expectClosed()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		for name, form := range map[string]string{
			"text": secret, "byte list": strings.Trim(fmt.Sprint([]byte(secret)), "[]"), "base64": "aHVudGVyM",
			"hex": fmt.Sprintf("%x", secret),
		} {
			if strings.Contains(text, form) {
				t.Errorf("the log contains a secret as %s", name)
			}
		}
		for _, want := range []string{"error processing packet", "device-name", errBad.Error()} {
			if !strings.Contains(text, want) {
				t.Errorf("the log lacks %q", want)
			}
		}
		out.Reset()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestConnackTellsTheLimits(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.SessionExpiry = time.Hour })
	_, ack := connack(t, b, "d", login{version: 5, id: "c", props: prop32(0x11, math.MaxUint32)})
	for name, prop := range map[string][]byte{
		"Maximum Packet Size": prop32(0x27, defaultMaxPacket), "Receive Maximum": {0x21, 0, receiveMax}, "Session Expiry Interval": prop32(0x11, 3600),
	} {
		if !hasProp(ack.body, prop) {
			t.Errorf("CONNACK % x does not tell the %s", ack.body, name)
		}
	}
	for _, version := range []byte{3, 4} {
		if _, ack := connack(t, b, "d", login{version: version, id: "c4"}); !bytes.Equal(ack.body, []byte{0, 0}) {
			t.Errorf("CONNACK of version %d = % x", version, ack.body)
		}
	}
}

func TestUserPropertiesAreNotEchoed(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{version: 5, id: "c"})
	user := join([]byte{0x26}, str("k"), str("v"))
	c.send(c.encode(message{topic: "x", qos: 1, id: 1, props: user}))
	if f := c.expect(tPuback); len(f.body) != 2 {
		t.Errorf("PUBACK % x, want the identifier alone", f.body)
	}
	c.send(c.encode(message{topic: "x", qos: 2, id: 2, props: user}))
	if f := c.expect(tPubrec); len(f.body) != 2 {
		t.Errorf("PUBREC % x, want the identifier alone", f.body)
	}
	c.send(packet(tPubrel|2, u16(2)))
	c.expect(tPubcomp)
	c.send(packet(tSubscribe|2, u16(3), sized(user), str("y"), []byte{0}))
	if f := c.expect(tSuback); !bytes.Equal(f.body, []byte{0, 3, 0, 0}) {
		t.Errorf("SUBACK % x", f.body)
	}
	c.send(packet(tUnsubscribe|2, u16(4), sized(user), str("y")))
	if f := c.expect(tUnsuback); !bytes.Equal(f.body, []byte{0, 4, 0, 0}) {
		t.Errorf("UNSUBACK % x", f.body)
	}
}

func TestMessagesGetNoExpiry(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{version: 5, id: "c"})
	c.publish(message{topic: "x", payload: "1", qos: 1, retain: true})
	c.subscribe("x", 1)
	if got := c.take(); len(got.props) != 0 {
		t.Errorf("retained message has properties % x", got.props)
	}
	connect(t, b, "p", login{version: 5, id: "p"}).publish(message{topic: "x", payload: "2", qos: 1, props: prop32(0x02, 60)})
	if got := c.take(); len(got.props) != 5 || got.props[0] != 0x02 || got.props[4] > 60 {
		t.Errorf("properties % x, want an expiry of at most 60", got.props)
	}
}

func TestExpiredMessagesAreNotSent(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: prop32(0x11, 3600)}
	connect(t, b, "d", l).subscribe("queued", 1)
	sub := connect(t, b, "d", l)
	sub.disconnect()
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	for topic, retain := range map[string]bool{"queued": false, "kept/brief": true} {
		pub.publish(message{topic: topic, payload: "old", qos: 1, retain: retain, props: prop32(0x02, 1)})
	}
	published := time.Now().Unix()
	for topic, retain := range map[string]bool{"queued": false, "kept/long": true} {
		pub.publish(message{topic: topic, payload: "new", qos: 1, retain: retain, props: prop32(0x02, 1000)})
	}
	eventually(t, "two seconds have passed", func() bool { return time.Now().Unix() > published+1 })
	sub = connect(t, b, "d", l)
	if got := sub.take(); got.payload != "new" {
		t.Errorf("queued: got %+v", got)
	}
	sub.subscribe("kept/#", 1)
	if got := sub.take(); got.payload != "new" {
		t.Errorf("retained: got %+v", got)
	}
	sub.quiet()
}

func TestSweep(t *testing.T) {
	b, _ := newBroker(t, nil)
	sub := connect(t, b, "d", login{id: "s", persist: true})
	sub.subscribe("#", 1)
	sub.disconnect()
	eventually(t, "the session is without connection", func() bool { return b.open() == 0 })
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	pub.publish(message{topic: "brief", payload: "1", qos: 1, retain: true, props: prop32(0x02, 60)})
	pub.publish(message{topic: "long", payload: "1", qos: 1, retain: true})
	pub.ping()
	b.expireMessages(time.Now())
	if s := b.Stats(); s.Retained != 2 || s.Queued != 2 {
		t.Errorf("too early: %+v", s)
	}
	b.expireMessages(time.Now().Add(time.Hour))
	if s := b.Stats(); s.Retained != 1 || s.Queued != 1 {
		t.Errorf("an hour later: %+v", s)
	}
	b.expireSessions(time.Now().Add(time.Hour))
	if s := b.Stats(); s.Sessions != 2 {
		t.Errorf("an hour later: %d sessions, want 2", s.Sessions)
	}
	b.expireSessions(time.Now().Add(defaultSessionExpiry + time.Minute))
	if s := b.Stats(); s.Sessions != 1 {
		t.Errorf("the day after: %d sessions, want that of the connection", s.Sessions)
	}
}

func TestConnectTimeout(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.ConnectTimeout = 10 * time.Millisecond })
	c := dial(t, b, "d")
	c.send(login{version: 4, id: "c"}.encode()[:5])
	c.expectClosed()
	if s := b.Stats(); s.Clients != 0 {
		t.Errorf("%d clients", s.Clients)
	}
}

func TestKeepAlive(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.ConnectTimeout = 50 * time.Millisecond })
	forever := connect(t, b, "d", login{id: "0"})
	var long []*client
	for _, seconds := range []uint16{longestKeepAlive, longestKeepAlive + 1, math.MaxUint16} {
		long = append(long, connect(t, b, "d", login{id: fmt.Sprint(seconds), keepAlive: seconds}))
	}
	brief := connect(t, b, "d", login{version: 5, id: "1", keepAlive: 1})
	old := connect(t, b, "d", login{version: 4, id: "2", keepAlive: 1})
	began := time.Now()
	if f := brief.expect(tDisconnect); f.body[0] != 0x8D {
		t.Errorf("DISCONNECT code %#x, want 0x8D", f.body[0])
	}
	brief.expectClosed()
	old.expectClosed()
	if passed := time.Since(began); passed < 1400*time.Millisecond {
		t.Errorf("closed after %v, want one and a half seconds", passed)
	}
	for _, c := range append(long, forever) {
		c.ping()
	}
}

func TestExpiredSessionLeavesNothing(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.SessionExpiry = time.Second })
	var want Stats
	for _, l := range []login{
		{version: 4, id: "old", persist: true}, {version: 5, id: "new", persist: true, props: prop32(0x11, math.MaxUint32)},
	} {
		c := connect(t, b, "d", l)
		c.subscribe("x", 1)
		// The client cannot lengthen it when it leaves either.
		c.send(packet(tDisconnect, map[byte][]byte{5: join([]byte{0}, sized(prop32(0x11, math.MaxUint32)))}[l.version]))
		c.expectClosed()
		want.Sessions++
	}
	pub := connect(t, b, "p", login{id: "p"})
	pub.publish(message{topic: "x", payload: "1", qos: 1})
	pub.ping()
	if s := b.Stats(); s.Sessions != 3 || s.Queued != 2 {
		t.Errorf("stats %+v, want 3 sessions and 2 messages queued", s)
	}
	eventually(t, "the sessions are gone", func() bool { return b.Stats().Sessions == 1 })
	if subs := b.server.Topics.Subscribers("x"); len(subs.Subscriptions) != 0 {
		t.Errorf("subscriptions of expired sessions: %v", subs.Subscriptions)
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

func TestRepeatedQoS2Publish(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		l := login{version: version, id: "c", persist: true, props: prop32(0x11, 3600)}
		c := connect(t, b, "d", l)
		msg := message{topic: "v2/t", payload: "1", qos: 2, id: 5}
		c.send(c.encode(msg))
		c.acknowledged(tPubrec, 5, 0)
		c.conn.Close()
		c = connect(t, b, "d", l)
		c.acknowledged(tPubrec, 5, 0) // mochi sends it again unasked, which does no harm
		msg.dup = true
		c.send(c.encode(msg))
		c.acknowledged(tPubrec, 5, 0)
		c.send(packet(tPubrel|2, u16(5)))
		c.acknowledged(tPubcomp, 5, 0)
		if got := m.records(); !slices.Equal(got, []record{{"telemetry", "d", "1"}}) {
			t.Errorf("stored %q, want it once", got)
		}
	})
}

// Clients before MQTT 5 know no Receive Maximum, and mochi counts exchanges of both directions against its own.
func TestManyQoS2MessagesAtOnce(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{id: "c"})
	const n = 500
	for id := uint16(1); id <= n; id++ {
		c.send(c.encode(message{topic: "x", qos: 2, id: id}))
	}
	for id := uint16(1); id <= n; id++ {
		c.acknowledged(tPubrec, id, 0)
	}
	for id := uint16(1); id <= n; id++ {
		c.send(packet(tPubrel|2, u16(id)))
		c.acknowledged(tPubcomp, id, 0)
	}
}

func TestDeliveryDoesNotAskForAccess(t *testing.T) {
	// What a subscriber may not read is never published, so nothing has to be checked for each delivery.
	for _, topic := range []string{"$SYS/x", "$x", "$share/g/x"} {
		if routeOf(topic) != routeRefused {
			t.Errorf("%q can be published", topic)
		}
	}
}
