package broker

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

func TestWillIsPublishedOnACut(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		for qos := byte(0); qos <= 2; qos++ {
			b, _ := newBroker(t, nil)
			witness := connect(t, b, "w", login{version: version, id: "w"})
			witness.subscribe("wills/#", 2)
			witness.Ping() // past the sending of retained messages
			c := connect(t, b, "d", login{version: version, id: "c", will: &lastWill{topic: "wills/d", payload: "gone", qos: qos, retain: true}})
			c.Conn.Close()
			if got := witness.take(); got.topic != "wills/d" || got.payload != "gone" || got.qos != qos {
				t.Errorf("will = %+v", got)
			}
			late := connect(t, b, "l", login{version: version, id: "l"})
			late.subscribe("wills/#", 2)
			if got := late.take(); got.payload != "gone" || !got.retain {
				t.Errorf("retained will = %+v", got)
			}
			witness.quiet()
		}
	})
}

func TestWillIsDroppedByDisconnect(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		witness := connect(t, b, "w", login{id: "w"})
		witness.subscribe("wills", 0)
		c := connect(t, b, "d", login{version: version, id: "c", will: &lastWill{topic: "wills", payload: "gone"}})
		c.disconnect()
		eventually(t, "the connection has ended", func() bool { return b.open() == 1 })
		witness.quiet()
	})
}

func TestDisconnectWithWill(t *testing.T) {
	for name, bye := range map[string][]byte{
		"reason code alone":              {tDisconnect, 1, 0x04},
		"with properties":                {tDisconnect, 2, 0x04, 0},
		"an expiry where there was none": packet(tDisconnect, []byte{0}, sized(prop32(0x11, 60))), // a protocol error
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newBroker(t, nil)
			witness := connect(t, b, "w", login{id: "w"})
			witness.subscribe("wills", 0)
			c := connect(t, b, "d", login{version: 5, id: "c", will: &lastWill{topic: "wills", payload: "gone"}})
			c.Send(bye)
			if got := witness.take(); got.payload != "gone" {
				t.Errorf("will = %+v", got)
			}
		})
	}
}

func TestWillWithDeviceDataIsStored(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		witness := connect(t, b, "w", login{id: "w"})
		witness.subscribe("#", 0)
		for _, topic := range []string{"v1/devices/me/telemetry", "v2/a", "v1/devices/me/rpc/request/1"} {
			c := connect(t, b, "d", login{version: version, id: "c", will: &lastWill{topic: topic, payload: topic, retain: true}})
			c.Conn.Close()
			eventually(t, "the connection has ended", func() bool { return b.open() == 1 })
		}
		want := []record{{"telemetry", "d", "v1/devices/me/telemetry"}, {"attributes", "d", "v2/a"}}
		if got := m.records(); !slices.Equal(got, want) {
			t.Errorf("stored %q, want %q", got, want)
		}
		witness.quiet()
		if s := b.Stats(); s.Unsupported["rpc"] != 1 || s.Retained != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestWillToAnothersTopicIsRefused(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		want := byte(5)
		if version == 5 {
			want = 0x87
		}
		for _, topic := range []string{"v1/devices/other/telemetry", "$SYS/x", "a/#"} {
			c, ack := connack(t, b, "d", login{version: version, id: "c", will: &lastWill{topic: topic, payload: "x"}})
			if byte(ack.Code) != want {
				t.Errorf("CONNACK for a will to %q = %#x, want %#x", topic, ack.Code, want)
			}
			c.ExpectEnd()
		}
	})
}

func TestEmptyWillClearsARetainedMessage(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{id: "c", will: &lastWill{topic: "state", retain: true}})
	c.publish(message{topic: "state", payload: "on", qos: 1, retain: true})
	c.Conn.Close()
	eventually(t, "nothing is retained", func() bool { return b.Stats().Retained == 0 })
}

func TestWillKeepsItsProperties(t *testing.T) {
	b, _ := newBroker(t, nil)
	witness := connect(t, b, "w", login{version: 5, id: "w"})
	witness.subscribe("wills", 0)
	props := join([]byte{0x01, 1, 0x03}, str("text/plain"), []byte{0x08}, str("answers"), []byte{0x09}, str("id"), []byte{0x26}, str("k"), str("v"))
	c := connect(t, b, "d", login{version: 5, id: "c", will: &lastWill{topic: "wills", payload: "gone", props: props}})
	c.Conn.Close()
	if got := witness.take(); !slices.Equal(got.props, props) {
		t.Errorf("properties % x, want % x", got.props, props)
	}
}

func TestWillOnTakeover(t *testing.T) {
	b, _ := newBroker(t, nil)
	witness := connect(t, b, "w", login{id: "w"})
	witness.subscribe("wills", 0)
	l := login{version: 5, id: "c", persist: true, props: prop32(0x11, 3600)}
	l.will = &lastWill{topic: "wills", payload: "at once"}
	connect(t, b, "d", l)
	l.will = &lastWill{topic: "wills", payload: "later", props: prop32(0x18, 3600)}
	connect(t, b, "d", l)
	if got := witness.take(); got.payload != "at once" {
		t.Errorf("will = %+v", got)
	}
	l.will = &lastWill{topic: "wills", payload: "third", props: prop32(0x18, 3600)}
	connect(t, b, "d", l) // the session goes on: its will is not due
	eventually(t, "one connection is left", func() bool { return b.open() == 2 })
	witness.quiet()
	l.persist, l.will = false, nil // the session ends
	connect(t, b, "d", l)
	if got := witness.take(); got.payload != "third" {
		t.Errorf("will = %+v", got)
	}
}

func TestDelayedWillAndReconnect(t *testing.T) {
	b, m := newBroker(t, nil)
	l := login{version: 5, id: "c", persist: true, props: prop32(0x11, 3600), will: &lastWill{topic: "v2/t", payload: "x", props: prop32(0x18, 3600)}}
	cut := func() {
		c := connect(t, b, "d", l)
		c.Conn.Close()
		eventually(t, "the connection has ended", func() bool { return b.open() == 0 })
	}
	cut()
	cut() // dropped the first
	l.persist = false
	l.props = nil // without a session there is nothing to wait for
	cut()         // made the second due, and its own
	eventually(t, "two wills are stored", func() bool { return len(m.records()) == 2 })
	l.props = prop32(0x11, 3600)
	cut()
	if err := b.Close(); err != nil { // no session outlives the broker
		t.Fatal(err)
	}
	if got := m.records(); len(got) != 3 {
		t.Errorf("%d wills stored, want 3", len(got))
	}
}

// TestWillDelay tests the delay with a fake clock.
func TestWillDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		var fired []string
		var work sync.WaitGroup
		var dropped []string
		w := wills{work: &work, drop: func(will *will) { dropped = append(dropped, will.message.TopicName) }}
		w.fire = func(will *will) {
			mu.Lock()
			defer mu.Unlock()
			fired = append(fired, will.message.TopicName+" "+time.Since(began).String())
		}
		leave := func(id string, delay, session uint32) *conn {
			cl := &mqtt.Client{ID: id}
			cl.Properties.Props.SessionExpiryInterval = session
			c := &conn{}
			w.set(c, &will{client: cl, message: packets.Packet{TopicName: id}, delay: time.Duration(delay) * time.Second})
			w.end(c)
			w.end(c) // only once
			return c
		}
		leave("now", 0, 60)
		leave("delayed", 20, 60)
		leave("with its session", 60, 10)
		leave("resumed", 5, 60)
		time.Sleep(4 * time.Second)
		w.resume("resumed", false, nil)
		work.Wait()
		want := "now 0s|with its session 10s|delayed 20s"
		if got := strings.Join(fired, "|"); got != want {
			t.Errorf("fired %q, want %q", got, want)
		}
		if got := strings.Join(dropped, "|"); got != "resumed" {
			t.Errorf("dropped %q, want the will of the resumed session", got)
		}
	})
}
