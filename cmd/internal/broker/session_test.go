package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

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
		if ack.SessionPresent != (version != 3) {
			t.Errorf("session present = %t", ack.SessionPresent)
		}
		// An offline queue keeps its order.
		for i, got := range sub.takeAll(300) {
			if got.payload != fmt.Sprint(i) || got.qos != byte(1+i%2) {
				t.Fatalf("message %d = %+v", i, got)
			}
		}
		sub.quiet()
		l.persist = false
		if _, ack := connack(t, b, "s", l); ack.SessionPresent {
			t.Error("session present after a clean start")
		}
	})
}

func TestOfflineQueueIsBounded(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.DeviceMemory = 1 << 20 })
	sub := connect(t, b, "s", login{id: "s", persist: true})
	sub.subscribe("x", 1)
	sub.disconnect()
	pub := connect(t, b, "p", login{id: "p"})
	const n = 300
	for i := range n {
		pub.publish(message{topic: "x", payload: fmt.Sprint(i, " ", big(10_000)), qos: 1})
	}
	pub.quiet()
	s := b.Stats()
	if s.Queued < 80 || s.Queued > 100 || s.Dropped["device_memory"] != n-s.Queued || s.Memory > 1<<20+2*sessionCost {
		t.Errorf("%d queued, dropped %v, %d bytes", s.Queued, s.Dropped, s.Memory)
	}
	sub = connect(t, b, "s", login{id: "s", persist: true})
	for i, m := range sub.takeAll(int(s.Queued)) {
		if !strings.HasPrefix(m.payload, fmt.Sprint(i, " ")) {
			t.Fatalf("message %d starts with %.10q", i, m.payload)
		}
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
			if byte(ack.Code) != want || ack.SessionPresent {
				t.Errorf("CONNACK = %+v, want code %#x", ack, want)
			}
			thief.ExpectEnd()
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
			if f := first.Expect(packets.DISCONNECT); f.Body()[0] != 0x8E {
				t.Errorf("DISCONNECT code %#x, want 0x8E", f.Body()[0])
			}
		}
		first.ExpectEnd() // without DISCONNECT before MQTT 5
		connect(t, b, "p", login{id: "p"}).publish(message{topic: "x", payload: "1", qos: 1})
		if got := second.take(); got.payload != "1" {
			t.Errorf("got %+v", got)
		}
		if s := b.Stats(); s.Sessions != 2 || s.Subscriptions != 1 {
			t.Errorf("stats %+v, want one session each and one subscription", s)
		}
	})
}

// Of two connections with a new client identifier at the same time mochi used to lose track of
// one.
func TestConcurrentConnects(t *testing.T) {
	b, _ := newBroker(t, nil)
	const n = 20
	clients := make(chan *client, n)
	for range n {
		go func() {
			c := dial(t, b, "d")
			c.Send(login{version: 4, id: "same"}.encode())
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

func TestNothingIsLostInTakeovers(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: prop32(0x11, 3600)}
	sub := connect(t, b, "d", l)
	sub.subscribe("x", 1)
	const n = 2000
	var publishing sync.WaitGroup
	defer publishing.Wait()
	pub := connect(t, b, "p", login{id: "p"})
	ahead := make(chan struct{}, 500)
	publishing.Go(func() {
		for i := range n {
			ahead <- struct{}{}
			pub.publish(message{topic: "x", payload: fmt.Sprint(i), qos: 1})
		}
	})
	seen := make(map[string]bool)
	for len(seen) < n {
		old := sub
		sub = connect(t, b, "d", l)
		_ = old.Close()
		for range min(20, n-len(seen)) {
			if m := sub.take(); !seen[m.payload] {
				seen[m.payload] = true
				<-ahead
			}
		}
	}
}

// Sessions begin one at a time: mochi looks for the session to take over and adds the new one
// in separate steps.
func TestSessionsBeginOneAtATime(t *testing.T) {
	b, _ := newBroker(t, nil)
	other := connect(t, b, "o", login{id: "o"})
	b.sessions.RLock()
	c := dial(t, b, "d")
	c.Send(login{version: 4, id: "c"}.encode())
	for range 100 {
		other.Ping()
	}
	if s := b.Stats(); s.Sessions != 1 {
		t.Errorf("%d sessions, want the second to wait", s.Sessions)
	}
	b.sessions.RUnlock()
	c.Expect(packets.CONNACK)
}
