package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// numberIn returns the number of a call in what a gateway has got.
func numberIn(t *testing.T, m message, child string) uint32 {
	t.Helper()
	var n uint32
	if _, err := fmt.Sscanf(m.payload, `{"device":`+string(payload.AppendString(nil, child))+`,"data":{"id":%d,"method":"reboot","params":{}}}`, &n); err != nil || m.topic != "v1/gateway/rpc" || m.retain {
		t.Fatalf("got %+v, %v", m, err)
	}
	return n
}

// TestCallsOfDevicesBehindAGateway go to the gateway, which answers for them.
func TestCallsOfDevicesBehindAGateway(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := gatewayBroker(t)
		if r := <-beginCall(soon(t), b, "g/A", false); !errors.Is(r.err, ErrNotListening) {
			t.Errorf("without a gateway: %+v", r)
		}
		device := connect(t, b, "g", login{version: version, id: "d"}) // the same subject, with another token
		device.subscribe("#", 1)
		c := connectGateway(t, b, "g", login{version: version, id: "c"})
		other := connectGateway(t, b, "h", login{version: version, id: "o"})
		other.subscribe("v1/gateway/rpc", 1)
		c.subscribe("v1/gateway/rpc", 1)

		done := beginCall(soon(t), b, `g/A"`, false)
		got := c.take()
		n := numberIn(t, got, `A"`)
		for _, wrong := range []struct {
			from             *client
			device, topic    string
			id               uint32
			unexpected, code int
		}{
			{other, `A\"`, "v1/gateway/rpc", n, 1, 0}, {c, `B`, "v1/gateway/rpc", n, 1, 0}, {c, `A\"`, "v1/gateway/rpc", n + 1, 1, 0},
			{device, `A\"`, "v1/gateway/rpc", n, 0, 0x90}, {c, `A/\"`, "v1/gateway/rpc", n, 0, 0x99}, {c, `A\"`, "v1/gateway/rpc", 0, 0, 0x99},
			{c, `A\"`, fmt.Sprint("v1/devices/me/rpc/response/", n), n, 1, 0}, {device, `A\"`, fmt.Sprint("v1/devices/me/rpc/response/", n), n, 1, 0},
		} {
			before := b.Stats().UnexpectedAnswers
			wrong.from.Send(wrong.from.encode(message{topic: wrong.topic, payload: fmt.Sprintf(`{"device":"%s","id":%d,"data":"no"}`, wrong.device, wrong.id), qos: 1, id: 4}))
			if version != 5 {
				wrong.code = 0
			}
			wrong.from.ExpectAck(packets.PUBACK, 4, packets.ReasonCode(wrong.code))
			if d := b.Stats().UnexpectedAnswers - before; d != int64(wrong.unexpected) {
				t.Errorf("%+v: %d more unexpected answers", wrong, d)
			}
		}
		c.publish(message{topic: "v1/gateway/rpc", payload: fmt.Sprintf(`{"device": "A\"", "id": %d, "data": {"success": true, "n": 1.50}}`, n), qos: 1})
		if r := <-done; r.err != nil || r.answer != `{"success":true,"n":1.50}` {
			t.Errorf("call returned %+v", r)
		}

		done = beginCall(soon(t), b, "g/A", true)
		got = c.receive()
		numberIn(t, got, "A")
		select {
		case r := <-done:
			t.Fatalf("a one-way call returned %+v before the acknowledgement", r)
		default:
		}
		c.Send(packet(tPuback, u16(got.id)))
		if r := <-done; r.err != nil || r.answer != "" {
			t.Errorf("a one-way call returned %+v", r)
		}

		c.publish(message{topic: "v1/gateway/disconnect", payload: `{"device":"A"}`, qos: 1})
		if r := <-beginCall(soon(t), b, "g/A", false); !errors.Is(r.err, ErrNotListening) {
			t.Errorf("of a device that is disconnected: %+v", r)
		}
		done = beginCall(soon(t), b, "g/B", false)
		n = numberIn(t, c.take(), "B")
		long := strings.Repeat("x", maxAnswer)
		c.Send(c.encode(message{topic: "v1/gateway/rpc", payload: fmt.Sprintf(`{"device":"B","id":%d,"data":"%s"}`, n, long), qos: 1, id: 4}))
		c.ExpectAck(packets.PUBACK, 4, map[bool]packets.ReasonCode{true: 0x97}[version == 5])
		if r := <-done; !errors.Is(r.err, ErrLongAnswer) {
			t.Errorf("a long answer: %+v", r)
		}
		for _, c := range []*client{c, other} {
			c.quiet()
		}
		if s := b.Stats(); s.Calls["done"] != 2 || s.CallsWaiting != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// FuzzChildAnswer: what is accepted names a device and a call.
func FuzzChildAnswer(f *testing.F) {
	for _, seed := range []string{`{"device":"A","id":1,"data":{"success":true}}`, `{device:A,id:7}`, `{"device":"A","id":1e3,"data":null}`, `{"device":"a/b","id":1}`, `{"id":-1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		child, number, _, err := childAnswer(data)
		if err != nil {
			if _, bad := errors.AsType[*payload.Error](err); !bad {
				t.Errorf("error %v", err)
			}
			return
		}
		if number == 0 || payload.CheckChild(child) != nil {
			t.Errorf("device %q, number %d", child, number)
		}
		sent := mochi.Packet{TopicName: childCalls, Payload: childCall(child, number, []byte(`{"method":"m"}`))}
		if back, n := callIn(sent); back != child || n != number {
			t.Errorf("%q and %d became %q and %d", child, number, back, n)
		}
	})
}

// TestCallsOfAGatewayThatReturns: a session that loses its connection gets the request again.
func TestCallsOfAGatewayThatReturns(t *testing.T) {
	b, _ := gatewayBroker(t)
	l := login{version: 5, id: "c", persist: true, props: prop32(0x11, 3600)}
	c := connectGateway(t, b, "g", l)
	c.subscribe("v1/gateway/rpc", 1)
	done := beginCall(soon(t), b, "g/A", true)
	first := c.receive()
	_ = c.Close()
	eventually(t, "it is away", func() bool { return b.open() == 0 })
	c = connectGateway(t, b, "g", l)
	again := c.receive()
	if numberIn(t, again, "A") != numberIn(t, first, "A") || !again.dup {
		t.Errorf("got %+v", again)
	}
	c.Send(packet(tPuback, u16(again.id)))
	select {
	case r := <-done:
		if r.err != nil {
			t.Errorf("call returned %+v", r)
		}
	case <-time.After(patience):
		t.Error("the call goes on")
	}
}
