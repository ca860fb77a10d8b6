package broker

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// called is the outcome of a call that runs at the same time as the test.
type called struct {
	answer string
	err    error
}

// beginCall makes a call and returns a channel with its outcome.
func beginCall(ctx context.Context, b *Broker, device string, oneWay bool) <-chan called {
	done := make(chan called, 1)
	go func() {
		answer, err := b.Call(ctx, device, []byte(`{"method":"reboot","params":{}}`), oneWay)
		done <- called{string(answer), err}
	}()
	return done
}

// soon returns the context of a call.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestCallsAreAnswered: the device may have subscribed to any form of the topics.
func TestCallsAreAnswered(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		for _, tt := range []struct {
			filter            string
			request, response string
			qos               byte
		}{
			{"v1/devices/me/rpc/request/+", "v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/", 1},
			{"v2/r/req/+", "v2/r/req/", "v2/r/res/", 0},
			{"v2/r/req/j/+", "v2/r/req/j/", "v2/r/res/j/", 1},
			{"#", "v1/devices/me/rpc/request/", "v2/r/res/", 2}, // each session once
		} {
			c := connect(t, b, "d", login{version: version, id: "c"})
			c.subscribe(tt.filter, tt.qos)
			done := beginCall(soon(t), b, "d", false)
			got := c.take()
			number, ok := strings.CutPrefix(got.topic, tt.request)
			if !ok || got.payload != `{"method":"reboot","params":{}}` || got.qos != min(tt.qos, 1) || got.retain {
				t.Fatalf("%s: request %+v", tt.filter, got)
			}
			c.publish(message{topic: tt.response + number, payload: `{"done": true}`, qos: tt.qos})
			if r := <-done; r.answer != `{"done": true}` || r.err != nil {
				t.Errorf("%s: call returned %+v", tt.filter, r)
			}
			c.quiet()
			c.disconnect()
		}
		if s := b.Stats(); s.Calls["done"] != 4 || s.CallsWaiting != 0 || s.UnexpectedAnswers != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestOneWayCallsEndWithTheAcknowledgement: a one-way call ends when the device has acknowledged
// it. At QoS 0 it ends when the request was sent.
func TestOneWayCallsEndWithTheAcknowledgement(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		c.subscribe("v1/devices/me/rpc/request/+", 1)
		done := beginCall(soon(t), b, "d", true)
		got := c.receive()
		select {
		case r := <-done:
			t.Fatalf("call returned %+v before the acknowledgement", r)
		default:
		}
		// An answer is not an acknowledgement.
		c.publish(message{topic: "v1/devices/me/rpc/response/" + path.Base(got.topic), payload: "1", qos: 1})
		c.Send(packet(tPuback, u16(got.id)))
		if r := <-done; r.err != nil || r.answer != "" {
			t.Errorf("call returned %+v", r)
		}
		c.subscribe("v1/devices/me/rpc/request/+", 0)
		if r := <-beginCall(soon(t), b, "d", true); r.err != nil || r.answer != "" {
			t.Errorf("at QoS 0 the call returned %+v", r)
		}
		if s := b.Stats(); s.Calls["done"] != 2 || s.UnexpectedAnswers != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestRefusedOneWayCallsWereNotReceived: MQTT 5 devices can refuse a message in their PUBACK.
func TestRefusedOneWayCallsWereNotReceived(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{version: 5, id: "c"})
	c.subscribe("v1/devices/me/rpc/request/+", 1)
	ctx, cancel := context.WithCancelCause(soon(t))
	done := beginCall(ctx, b, "d", true)
	c.Send(packet(tPuback, u16(c.receive().id), []byte{0x80}))
	c.quiet() // the broker has read it
	enough := errors.New("enough")
	cancel(enough)
	if r := <-done; !errors.Is(r.err, enough) {
		t.Errorf("call returned %+v", r)
	}
}

// TestOnlyTheCalledDeviceAnswers: answers of others, answers with another number, and second
// answers are acknowledged and change nothing.
func TestOnlyTheCalledDeviceAnswers(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		c.thingsboard()
		other := connect(t, b, "e", login{version: version, id: "o"})
		other.thingsboard()
		done := beginCall(soon(t), b, "d", false)
		number := path.Base(c.take().topic)
		const response = "v1/devices/me/rpc/response/"
		other.publish(message{topic: response + number, payload: "forged", qos: 1})
		for _, n := range []string{"0", "4294967296", "9999999999", "7"} {
			c.publish(message{topic: response + n, payload: "foreign", qos: 1})
		}
		c.publish(message{topic: response + number, payload: "first", qos: 1})
		c.publish(message{topic: response + number, payload: "second", qos: 1})
		if r := <-done; r.answer != "first" || r.err != nil {
			t.Errorf("call returned %+v", r)
		}
		c.publish(message{topic: response + number, payload: "late", qos: 1})
		if s := b.Stats(); s.UnexpectedAnswers != 7 {
			t.Errorf("%d unexpected answers, want 7", s.UnexpectedAnswers)
		}
		other.quiet()
		c.quiet()
	})
}

// TestAllSessionsOfTheDeviceAreCalled: each session gets the request, and the first answer counts.
func TestAllSessionsOfTheDeviceAreCalled(t *testing.T) {
	b, _ := newBroker(t, nil)
	var all []*client
	for i := range 3 {
		c := connect(t, b, "d", login{id: fmt.Sprint("c", i)})
		c.thingsboard()
		all = append(all, c)
	}
	done := beginCall(soon(t), b, "d", false)
	number := ""
	for _, c := range all {
		number = path.Base(c.take().topic)
	}
	all[1].publish(message{topic: "v1/devices/me/rpc/response/" + number, payload: "1", qos: 1})
	if r := <-done; r.answer != "1" || r.err != nil {
		t.Errorf("call returned %+v", r)
	}
}

// TestNoSessionListens: a call ends at once, and a session that returns later does not get it.
func TestNoSessionListens(t *testing.T) {
	b, _ := newBroker(t, nil)
	call := func(what string) {
		t.Helper()
		if _, err := b.Call(soon(t), "d", []byte("{}"), false); !errors.Is(err, ErrNotListening) {
			t.Errorf("%s: error %v, want that none listens", what, err)
		}
	}
	call("unknown device")
	l := login{id: "c", persist: true}
	c := connect(t, b, "d", l)
	call("no subscription")
	c.subscribe("v1/devices/me/rpc/response/+", 1)
	call("another subscription")
	c.subscribe("v1/devices/me/rpc/request/+", 1)
	c.disconnect()
	eventually(t, "it is away", func() bool { return b.open() == 0 })
	call("away")
	connect(t, b, "d", l).quiet()
	if s := b.Stats(); s.Calls["not_listening"] != 4 {
		t.Errorf("stats %+v", s)
	}
}

// TestLateCallsAreNotDelivered: a device that returns after the deadline must not do what no caller
// waits for any more.
func TestLateCallsAreNotDelivered(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		l := login{version: version, id: "c", persist: true}
		if version == 5 {
			l.props = prop32(0x11, 3600)
		}
		for _, tt := range []struct {
			timeout time.Duration
			again   bool
		}{{time.Minute, true}, {time.Second / 10, false}} {
			c := connect(t, b, "d", l)
			c.thingsboard()
			ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
			done := beginCall(ctx, b, "d", false)
			request := c.receive() // without an acknowledgement
			c.disconnect()
			if !tt.again {
				if r := <-done; !errors.Is(r.err, context.DeadlineExceeded) {
					t.Errorf("call returned %+v", r)
				}
			}
			c = connect(t, b, "d", l)
			if tt.again {
				if got := c.take(); got.topic != request.topic || got.payload != request.payload {
					t.Errorf("got %+v, want %+v again", got, request)
				}
				c.publish(message{topic: "v1/devices/me/rpc/response/" + path.Base(request.topic), payload: "1", qos: 1})
				if r := <-done; r.answer != "1" {
					t.Errorf("call returned %+v", r)
				}
			}
			c.quiet()
			c.disconnect()
			cancel()
		}
	})
}

// TestCallEndsWithItsCaller: a device that returns after the caller has left does not get the call,
// although its time is not over. It gets everything else.
func TestCallEndsWithItsCaller(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{id: "c", persist: true}
	c := connect(t, b, "d", l)
	c.thingsboard()
	ctx, leave := context.WithCancel(soon(t))
	done := beginCall(ctx, b, "d", false)
	c.receive() // without an acknowledgement
	c.disconnect()
	eventually(t, "it is away", func() bool { return b.open() == 0 })
	b.PushAttributes("d", []byte("{}"))
	leave()
	if r := <-done; !errors.Is(r.err, context.Canceled) {
		t.Errorf("call returned %+v", r)
	}
	c = connect(t, b, "d", l)
	if got := c.take(); got.topic != "v1/devices/me/attributes" {
		t.Errorf("got %+v", got)
	}
	c.quiet()
}

// TestCallsAreBounded: the calls of one device and those of all devices are limited, and a call
// that has ended makes room.
func TestCallsAreBounded(t *testing.T) {
	b, _ := newBroker(t, nil)
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	var all []<-chan called
	for d := range maxCalls / maxDeviceCalls {
		device := fmt.Sprint("d", d)
		c := connect(t, b, device, login{id: device})
		c.thingsboard()
		for range maxDeviceCalls {
			all = append(all, beginCall(ctx, b, device, false))
			c.take()
		}
		if _, err := b.Call(ctx, device, []byte("{}"), true); !errors.Is(err, ErrTooManyCalls) {
			t.Errorf("one call more for %s: error %v", device, err)
		}
		c.quiet()
	}
	c := connect(t, b, "e", login{id: "e"})
	c.thingsboard()
	if _, err := b.Call(ctx, "e", []byte("{}"), true); !errors.Is(err, ErrTooManyCalls) {
		t.Errorf("one call more in all: error %v", err)
	}
	if s := b.Stats(); s.CallsWaiting != maxCalls {
		t.Errorf("%d calls wait, want %d", s.CallsWaiting, maxCalls)
	}
	cancel() // the callers leave
	for _, done := range all {
		if r := <-done; !errors.Is(r.err, context.Canceled) {
			t.Errorf("call returned %+v", r)
		}
	}
	done := beginCall(soon(t), b, "e", true)
	c.take()
	if r := <-done; r.err != nil {
		t.Errorf("after the others have ended: %v", r.err)
	}
	if s := b.Stats(); s.CallsWaiting != 0 || s.Calls["left"] != maxCalls || len(b.calls.devices) != 0 || b.calls.oneWay.Load() != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestLongAnswersAreRefused: the caller learns it, and the device goes on.
func TestLongAnswersAreRefused(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		c.thingsboard()
		for _, tt := range []struct {
			size int
			err  error
			code packets.ReasonCode
		}{{maxAnswer, nil, 0}, {maxAnswer + 1, ErrLongAnswer, 0x97}} {
			done := beginCall(soon(t), b, "d", false)
			number := path.Base(c.take().topic)
			c.Send(c.encode(message{topic: "v1/devices/me/rpc/response/" + number, payload: big(tt.size), qos: 1, id: 3}))
			if version < 5 {
				tt.code = 0
			}
			c.ExpectAck(packets.PUBACK, 3, tt.code)
			if r := <-done; !errors.Is(r.err, tt.err) || r.err == nil && len(r.answer) != tt.size {
				t.Errorf("%d bytes: call returned %d bytes, error %v", tt.size, len(r.answer), r.err)
			}
		}
		c.quiet()
	})
}

// TestCallsDoNotFillTheMemoryOfTheDevice beyond its share.
func TestCallsDoNotFillTheMemoryOfTheDevice(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.DeviceMemory = 64 << 10 })
	c := connect(t, b, "d", login{id: "c"})
	c.thingsboard()
	if _, err := b.Call(soon(t), "d", []byte(big(64<<10)), false); !errors.Is(err, ErrNotReading) {
		t.Errorf("error %v", err)
	}
	c.quiet()
}

// TestCallsDoNotWaitBehindMessages: what the device takes at once is used up by a message that it
// has not acknowledged, and it would get the request at any later time.
func TestCallsDoNotWaitBehindMessages(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{version: 5, id: "c", props: []byte{0x21, 0, 1}}) // Receive Maximum 1
	c.thingsboard()
	b.PushAttributes("d", []byte("{}"))
	got := c.receive()
	if _, err := b.Call(soon(t), "d", []byte("{}"), true); !errors.Is(err, ErrNotReading) {
		t.Errorf("error %v", err)
	}
	c.Send(packet(tPuback, u16(got.id)))
	c.quiet()
	done := beginCall(soon(t), b, "d", true)
	c.take()
	if r := <-done; r.err != nil {
		t.Errorf("after the acknowledgement: %v", r.err)
	}
}

// TestShutdownEndsCalls: calls that wait end at a shutdown.
func TestShutdownEndsCalls(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{id: "c"})
	c.thingsboard()
	done := beginCall(soon(t), b, "d", false)
	c.take()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-done; !errors.Is(r.err, ErrClosed) {
		t.Errorf("call returned %+v", r)
	}
}
