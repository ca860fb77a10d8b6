package broker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// awaitQuiet waits until so many connections wait for the first byte of a packet, and do nothing
// else.
func awaitQuiet(t testing.TB, b *Broker, n int64) {
	t.Helper()
	eventually(t, "quiet connections", func() bool { return b.counts.quiet.Load() == n })
}

// awaitQuietOrGone waits until the only connection is quiet. If the machine is so slow that the keep
// alive has ended it meanwhile, it has been.
func awaitQuietOrGone(t *testing.T, b *Broker) {
	t.Helper()
	eventually(t, "a quiet connection", func() bool { return b.counts.quiet.Load() == 1 || b.open() == 0 })
}

// TestQuietDevicesWakeUp: whatever a device sends after it has been quiet is processed, in whatever
// pieces it comes.
func TestQuietDevicesWakeUp(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		awaitQuiet(t, b, 1)
		c.Ping()
		awaitQuiet(t, b, 1)
		c.subscribe("x", 1)
		awaitQuiet(t, b, 1)
		c.publish(message{topic: "v2/t", payload: big(3 * inputBuffer), qos: 1, id: 1})
		awaitQuiet(t, b, 1)
		publish := c.encode(message{topic: "v2/t", payload: "pieces", qos: 1, id: 2})
		c.Send(publish[:1])
		awaitQuiet(t, b, 0)
		c.Send(publish[1:])
		c.Expect(packets.PUBACK)
		if got := m.records(); len(got) != 2 || len(got[0].payload) != 3*inputBuffer || got[1].payload != "pieces" {
			t.Errorf("stored %d payloads", len(got))
		}
		awaitQuiet(t, b, 1)
		c.Close()
		eventually(t, "the connection has ended", func() bool { return b.open() == 0 })
	})
}

// TestQuietDevicesGetMessages: what others send does not wait until a quiet device sends something.
func TestQuietDevicesGetMessages(t *testing.T) {
	b, _ := newBroker(t, nil)
	sub := connect(t, b, "s", login{id: "s"})
	sub.subscribe("x", 1)
	awaitQuiet(t, b, 1)
	pub := connect(t, b, "p", login{id: "p"})
	pub.publish(message{topic: "x", payload: "hello", qos: 1})
	if got := sub.take(); got.payload != "hello" {
		t.Errorf("received %q", got.payload)
	}
}

// TestQuietDevicesAreStillWatched: a keep alive, a second connection and the end of the broker end
// the connection of a quiet device.
func TestQuietDevicesAreStillWatched(t *testing.T) {
	t.Run("keep alive", func(t *testing.T) {
		b, _ := newBroker(t, nil)
		begun := time.Now()
		c := connect(t, b, "d", login{version: 5, id: "c", keepAlive: 1})
		awaitQuietOrGone(t, b)
		if f := c.Expect(packets.DISCONNECT); f.Body()[0] != 0x8D {
			t.Errorf("code %#x, want 0x8D", f.Body()[0])
		}
		c.ExpectEnd()
		if since := time.Since(begun); since < 1500*time.Millisecond {
			t.Errorf("the connection has ended after %v", since)
		}
	})
	t.Run("second connection", func(t *testing.T) {
		b, _ := newBroker(t, nil)
		l := login{version: 5, id: "c", persist: true, props: prop32(0x11, 60)}
		first := connect(t, b, "d", l)
		first.subscribe("x", 1)
		awaitQuiet(t, b, 1)
		second := connect(t, b, "d", l)
		if f := first.Expect(packets.DISCONNECT); f.Body()[0] != 0x8E {
			t.Errorf("code %#x, want 0x8E", f.Body()[0])
		}
		first.ExpectEnd()
		connect(t, b, "p", login{id: "p"}).publish(message{topic: "x", payload: "hello", qos: 1})
		if got := second.take(); got.payload != "hello" {
			t.Errorf("received %q", got.payload)
		}
		eventually(t, "the first connection is gone", func() bool { return b.Stats().Clients == 2 && b.open() == 2 })
	})
	t.Run("end of the broker", func(t *testing.T) {
		b, _ := newBroker(t, nil)
		c := connect(t, b, "d", login{id: "c"})
		awaitQuiet(t, b, 1)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		c.ExpectEnd()
	})
}

// serveHere connects a device whose connection the test serves itself, until it is quiet.
func serveHere(t *testing.T, b *Broker, l login) (c *conn, device net.Conn) {
	t.Helper()
	near, far, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = newConn(b, near, Device{Name: "d"}); err == nil {
		err = b.admit(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.end(c, nil)
		_ = far.Close()
	})
	if _, err := far.Write(l.encode()); err != nil {
		t.Fatal(err)
	}
	if err := b.process(c); !errors.Is(err, errQuiet) {
		t.Fatalf("process: %v", err)
	}
	return c, far
}

// TestQuietConnectionsKeepNoBuffer: the buffer is as large as all else that a quiet device takes.
func TestQuietConnectionsKeepNoBuffer(t *testing.T) {
	b, _ := newBroker(t, nil)
	c, device := serveHere(t, b, login{id: "c"})
	for range 2 {
		if c.buffer != nil || c.unread != nil {
			t.Fatal("a quiet connection keeps its buffer")
		}
		if _, err := device.Write([]byte{tPingreq, 0}); err != nil {
			t.Fatal(err)
		}
		c.readFirst()
		if err := b.process(c); !errors.Is(err, errQuiet) {
			t.Fatalf("process: %v", err)
		}
	}
}

// TestNothingIsLostBetweenAwakeAndQuiet: a packet may come in any instant while a connection becomes
// quiet.
func TestNothingIsLostBetweenAwakeAndQuiet(t *testing.T) {
	t.Run("at the end of the wait", func(t *testing.T) {
		b, m := newBroker(t, nil)
		c, device := serveHere(t, b, login{id: "c"})
		message := (&client{packetstest.New(t, device, 4), t}).encode(message{topic: "v2/t", payload: "late", qos: 1, id: 1})
		if _, err := device.Write(message); err != nil {
			t.Fatal(err)
		}
		c.readFirst()
		if err := b.process(c); !errors.Is(err, errQuiet) {
			t.Fatalf("process: %v", err)
		}
		if got := m.records(); len(got) != 1 || got[0].payload != "late" {
			t.Errorf("stored %v", got)
		}
	})
	t.Run("at any time", func(t *testing.T) {
		b, m := newBroker(t, nil)
		b.quietAfter = time.Nanosecond // quiet whenever nothing waits to be read
		c := connect(t, b, "d", login{id: "c"})
		const messages = 300
		for i := range messages {
			stream := c.encode(message{topic: "v2/t", payload: big(i), qos: 1, id: uint16(i + 1)})
			at := i % len(stream)
			c.Send(stream[:at])
			c.Send(stream[at:])
			c.Expect(packets.PUBACK)
		}
		if got := m.records(); len(got) != messages {
			t.Errorf("stored %d, want %d", len(got), messages)
		}
	})
}

// drip sends a byte every 20 milliseconds until that fails, in the background.
func (c *client) drip(stream []byte) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := range stream {
			<-tick.C
			if _, err := c.Write(stream[i : i+1]); err != nil {
				return
			}
		}
	}()
	c.t.Cleanup(func() {
		_ = c.Close()
		<-gone
	})
}

// TestPacketThatComesSlowlyIsNoSignOfLife: deadlines end a connection on which bytes come, and no
// packet. The first bytes of it do not begin the keep alive anew, also if the device was quiet.
func TestPacketThatComesSlowlyIsNoSignOfLife(t *testing.T) {
	t.Run("CONNECT", func(t *testing.T) {
		b, _ := newBroker(t, func(o *Options) { o.ConnectTimeout = 200 * time.Millisecond })
		c := dial(t, b, "d")
		c.drip(login{id: big(1000)}.encode())
		c.ExpectEnd()
		if n := b.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
	t.Run("PUBLISH", func(t *testing.T) {
		b, m := newBroker(t, nil)
		c := connect(t, b, "d", login{version: 5, id: "c", keepAlive: 1})
		c.drip(c.encode(message{topic: "v2/t", payload: big(1000), qos: 1, id: 1}))
		if f := c.Expect(packets.DISCONNECT); f.Body()[0] != 0x8D {
			t.Errorf("code %#x, want 0x8D", f.Body()[0])
		}
		c.ExpectEnd()
		if got := m.records(); len(got) != 0 {
			t.Errorf("stored %v", got)
		}
	})
}

// TestKeepAliveGoesOnWhenADeviceWakesUp: the deadline is the one that it had before.
func TestKeepAliveGoesOnWhenADeviceWakesUp(t *testing.T) {
	b, _ := newBroker(t, nil)
	c, device := serveHere(t, b, login{id: "c", keepAlive: 60})
	due := c.due
	if !c.deadline.Equal(due) {
		t.Fatalf("the socket waits until %v, want %v", c.deadline, due)
	}
	if _, err := device.Write([]byte{tPingreq}); err != nil {
		t.Fatal(err)
	}
	c.readFirst()
	if err := c.await(); err != nil || !c.due.Equal(due) {
		t.Errorf("await: %v, due %v, want %v", err, c.due, due)
	}
}

// TestEarlierDeadlineOfTheSocketEndsNothing: it is moved when it has passed.
func TestEarlierDeadlineOfTheSocketEndsNothing(t *testing.T) {
	b, _ := newBroker(t, nil)
	c, device := serveHere(t, b, login{id: "c"})
	for _, until := range []time.Time{{}, time.Now().Add(time.Hour)} {
		c.setDeadline(time.Now().Add(-time.Second))
		if _, err := device.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.readUntil(make([]byte, 2), until); n != 1 || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if !c.deadline.Equal(until) {
			t.Errorf("the socket waits until %v, want %v", c.deadline, until)
		}
	}
	past := time.Now().Add(-time.Second)
	if _, err := c.readUntil(make([]byte, 2), past); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
}

// TestWillsOfQuietDevices: a cut and a DISCONNECT wake a device up as other packets do.
func TestWillsOfQuietDevices(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*client)
		want bool
	}{
		{"cut", func(c *client) { c.Close() }, true},
		{"DISCONNECT", func(c *client) { c.Send([]byte{tDisconnect, 0}) }, false},
		{"DISCONNECT with the Will", func(c *client) { c.Send([]byte{tDisconnect, 1, 4}) }, true},
		{"half a packet", func(c *client) { c.Send([]byte{tDisconnect}); c.Close() }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, m := newBroker(t, nil)
			c := connect(t, b, "d", login{version: 5, id: "c", will: &lastWill{topic: "v2/t", payload: "will"}})
			awaitQuiet(t, b, 1)
			tt.end(c)
			eventually(t, "the connection has ended", func() bool { return b.open() == 0 })
			if got := m.records(); (len(got) == 1) != tt.want {
				t.Errorf("stored %v, want the Will: %v", got, tt.want)
			}
		})
	}
}

// TestShutdownEndsQuietDevices: all of them at once, with their Wills.
func TestShutdownEndsQuietDevices(t *testing.T) {
	b, m := newBroker(t, nil)
	const devices = 300
	for i := range devices {
		name := fmt.Sprint(i)
		connect(t, b, name, login{id: name, will: &lastWill{topic: "v2/t", payload: "will"}})
	}
	awaitQuiet(t, b, devices)
	if err := b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(m.records()); got != devices || b.open() != 0 || b.Stats().Clients != 0 {
		t.Errorf("%d Wills stored, %d connections and %d clients left", got, b.open(), b.Stats().Clients)
	}
}

// TestMochiGetsOnePacketAtATime: otherwise a packet could wait in mochi's buffer while the
// connection waits for the socket.
func TestMochiGetsOnePacketAtATime(t *testing.T) {
	b, m := newBroker(t, nil)
	c := connect(t, b, "d", login{id: "c"})
	var stream []byte
	const messages = 200
	for i := range messages {
		stream = append(stream, c.encode(message{topic: "v2/t", payload: big(i * 37), qos: 1, id: uint16(i + 1)})...)
	}
	c.Send(append(stream, tPingreq, 0))
	for range messages {
		c.Expect(packets.PUBACK)
	}
	c.Expect(packets.PINGRESP)
	if got := m.records(); len(got) != messages {
		t.Errorf("stored %d", len(got))
	}
}

// TestMochiIsNotAskedWhoTookOver: mochi's own IsTakenOver knows nothing of the sessions that inherit
// takes over.
func TestMochiIsNotAskedWhoTookOver(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".go") && !strings.HasSuffix(f.Name(), "_test.go") {
			text, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), ".IsTakenOver()") {
				t.Errorf("%s: call takenOver instead", f.Name())
			}
		}
	}
}
