package broker

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

func TestOptions(t *testing.T) {
	good := func() Options { return Options{Telemetry: nothing, Attributes: nothing} }
	for name, change := range map[string]func(*Options){
		"no telemetry":       func(o *Options) { o.Telemetry = nil },
		"no attributes":      func(o *Options) { o.Attributes = nil },
		"tiny packets":       func(o *Options) { o.MaxPacket = 1000 },
		"huge packets":       func(o *Options) { o.MaxPacket = 1 << 30 },
		"short sessions":     func(o *Options) { o.SessionExpiry = time.Millisecond },
		"endless sessions":   func(o *Options) { o.SessionExpiry = 1 << 62 },
		"negative timeout":   func(o *Options) { o.WriteTimeout = -1 },
		"negative timeout 2": func(o *Options) { o.ConnectTimeout = -1 },
		"negative timeout 3": func(o *Options) { o.StoreTimeout = -1 },
	} {
		o := good()
		change(&o)
		if b, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
			b.Close()
		}
	}
	b, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := connect(t, b, "d", login{id: "c"})
	c.publish(message{topic: "v2/t", payload: "1", qos: 1})
}

func TestDial(t *testing.T) {
	b, _ := newBroker(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	nc, err := b.Dial(ctx, Device{Name: "d"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := nc.(*net.UnixConn); !ok {
		t.Errorf("Dial returned a %T", nc)
	}
	cancel() // ends dialing, not what was dialed
	packetstest.New(t, nc, 4).Send([]byte{tConnect})
	if _, err := b.Dial(ctx, Device{Name: "d"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial with a cancelled context: %v", err)
	}
	nc.Close()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Dial(t.Context(), Device{Name: "d"}); !errors.Is(err, ErrClosed) {
		t.Errorf("Dial after Close: %v", err)
	}
	if err := b.Healthy(); !errors.Is(err, ErrClosed) {
		t.Errorf("Healthy after Close: %v", err)
	}
}

func TestStrangersAreNotServed(t *testing.T) {
	b, _ := newBroker(t, nil)
	near, far, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	done := make(chan error, 1)
	go func() { done <- b.server.EstablishConnection(listenerID, near) }()
	packetstest.New(t, far, 4).Send(login{version: 4, id: "c"}.encode())
	if err := <-done; err == nil {
		t.Error("a connection that Dial did not make was served")
	}
}

func TestShutdownDisconnects(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c", will: &lastWill{topic: "v2/t", payload: "gone"}})
		silent := dial(t, b, "d")
		if err := b.Healthy(); err != nil {
			t.Error(err)
		}
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if err := b.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if version == 5 {
			if f := c.Expect(packets.DISCONNECT); f.Body()[0] != 0x8B {
				t.Errorf("DISCONNECT code %#x, want 0x8B", f.Body()[0])
			}
		}
		c.ExpectEnd()
		silent.ExpectEnd()
		if got := m.records(); len(got) != 1 || got[0].payload != "gone" {
			t.Errorf("stored %q, want the will", got)
		}
	})
}

func TestShutdownWaitsForTheStore(t *testing.T) {
	b, m := newBroker(t, nil)
	m.hold = make(chan struct{})
	c := connect(t, b, "d", login{id: "c"})
	c.Send(c.encode(message{topic: "v2/t", payload: "1", qos: 1, id: 1}))
	eventually(t, "the message is being stored", func() bool { return b.Stats().MessagesIn == 1 })
	done := make(chan error)
	go func() { done <- b.Shutdown(t.Context()) }()
	c.ExpectEnd()
	close(m.hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(m.records()) != 1 {
		t.Error("what was being stored is lost")
	}
}

func TestShutdownIsBounded(t *testing.T) {
	b, m := newBroker(t, nil)
	m.hold = make(chan struct{})
	c := connect(t, b, "d", login{id: "c"})
	c.Send(c.encode(message{topic: "v2/t", payload: "1", qos: 1, id: 1}))
	eventually(t, "the message is being stored", func() bool { return b.Stats().MessagesIn == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v, want the context's error", err)
	}
	if err := b.Close(); err != nil { // the storing is canceled
		t.Error(err)
	}
}

// FuzzConnection sends any bytes after CONNECT. Another device must not notice.
func FuzzConnection(f *testing.F) {
	c := &client{Client: &packetstest.Client{}}
	for _, version := range allVersions {
		c.Level = version
		f.Add(version, c.encode(message{topic: "v2/t", payload: "1", qos: 1, id: 1}))
		f.Add(version, packet(tSubscribe|2, u16(9), c.props(nil), str("#"), []byte{2}))
		f.Add(version, join(c.encode(message{topic: "x", payload: "1", qos: 2, id: 1, retain: true}), packet(tPubrel|2, u16(1)), []byte{tDisconnect, 0}))
	}
	f.Add(byte(5), []byte{0x82, 0x06, 0x04, 0xd2, 0x00, 0x00, 0x01, 0x70})
	f.Add(byte(5), login{version: 5, id: "again"}.encode())
	f.Add(byte(4), []byte{tPublish, 0xff, 0xff, 0xff, 0x7f})
	b, err := New(Options{Telemetry: nothing, Attributes: nothing})
	if err != nil {
		f.Fatal(err)
	}
	defer b.Close()
	f.Fuzz(func(t *testing.T, version byte, data []byte) {
		other := connect(t, b, "other", login{id: "other"})
		c := dial(t, b, "d")
		c.Send(append(login{version: version, id: "c"}.encode(), data...))
		if err := c.Conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := c.ReadPacket(); err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Fatal("connection hangs")
				}
				break
			}
		}
		other.Ping()
		other.disconnect()
	})
}
