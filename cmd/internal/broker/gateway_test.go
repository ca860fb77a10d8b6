package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// gatewayBroker returns a broker that stores what gateways publish like that of other devices.
func gatewayBroker(t testing.TB) (*Broker, *memory) {
	t.Helper()
	var m *memory
	b, m := newBroker(t, func(o *Options) {
		save := func(kind string) func(context.Context, string, []byte) ([]string, error) {
			return func(ctx context.Context, gateway string, data []byte) ([]string, error) {
				name, _, _ := strings.Cut(strings.TrimPrefix(string(data), `{"`), `"`)
				return []string{name}, m.save(kind)(ctx, gateway, data)
			}
		}
		o.BadPayload = func(err error) bool {
			_, bad := errors.AsType[*payload.Error](err)
			return bad || errors.Is(err, errBad)
		}
		o.Children = Children{
			Telemetry: save("children's telemetry"), Attributes: save("children's attributes"),
			Connect: func(ctx context.Context, gateway, child string) error {
				return m.save("connect")(ctx, gateway, []byte(child))
			},
			AttributeRequest: func(_ context.Context, gateway string, request []byte) ([]byte, error) {
				if string(request) == "bad" {
					return nil, errBad
				}
				return fmt.Appendf(nil, "%s asks %s", gateway, request), nil
			},
		}
	})
	return b, m
}

// connectGateway connects a gateway.
func connectGateway(t testing.TB, b *Broker, name string, l login) *client {
	t.Helper()
	nc, err := b.Dial(t.Context(), Device{Name: name, Gateway: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{packetstest.New(t, nc, 4), t}
	packet := l.connect()
	c.Level = packet.Level
	c.Send(packet.Append(nil))
	if ack, err := c.ReadConnack(); err != nil || ack.Code != 0 {
		t.Fatalf("CONNACK %+v, %v", ack, err)
	}
	return c
}

// TestGatewaySpeaksForTheDevicesBehindIt: only a gateway may use these topics.
func TestGatewaySpeaksForTheDevicesBehindIt(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := gatewayBroker(t)
		topics := []struct{ topic, payload, kind, stored string }{
			{"v1/gateway/connect", `{"device":"A","type":"default"}`, "connect", "A"},
			{"v1/gateway/telemetry", `{"A":[{"k":1}]}`, "children's telemetry", `{"A":[{"k":1}]}`},
			{"v1/gateway/attributes", `{"A":{"k":1}}`, "children's attributes", `{"A":{"k":1}}`},
			{"v1/gateway/disconnect", `{"device":"A"}`, "", ""},
		}
		device := connect(t, b, "d", login{version: version, id: "d"})
		for _, tt := range topics {
			msg := message{topic: tt.topic, payload: tt.payload, qos: 1, id: 7}
			device.Send(device.encode(msg))
			if code := device.Expect(packets.PUBACK).Code(); version == 5 && code != 0x90 {
				t.Errorf("a device got %#x for %s", code, tt.topic)
			}
		}
		if s := b.Stats(); len(m.records()) != 0 || s.Unsupported["gateway"] != 4 {
			t.Errorf("a device has stored %v, %v are counted", m.records(), s.Unsupported)
		}
		c := connectGateway(t, b, "g", login{version: version, id: "g"})
		for _, tt := range topics {
			before := len(m.records())
			for qos := range byte(3) {
				c.publish(message{topic: tt.topic, payload: tt.payload, qos: qos})
			}
			c.quiet()
			got := m.records()[before:]
			if tt.kind == "" && len(got) > 0 || tt.kind != "" && len(got) != 3 {
				t.Fatalf("%s: stored %v", tt.topic, got)
			}
			for _, r := range got {
				if r.kind != tt.kind || r.device != "g" || r.payload != tt.stored {
					t.Errorf("%s: stored %+v", tt.topic, r)
				}
			}
		}
		if s := b.Stats(); s.Unsupported["gateway"] != 4 || s.BadPayloads != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestNamesOfChildrenThatAreRefused, and what gateways have not at all, with the codes of other
// payloads and topics.
func TestNamesOfChildrenThatAreRefused(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := gatewayBroker(t)
		c := connectGateway(t, b, "g", login{version: version, id: "g"})
		answer := func(topic, payload string) byte {
			c.Send(c.encode(message{topic: topic, payload: payload, qos: 1, id: 7}))
			return byte(c.Expect(packets.PUBACK).Code())
		}
		badName, badTopic := byte(0x99), byte(0x90)
		if version != 5 {
			badName, badTopic = 0, 0
		}
		for _, topic := range []string{"v1/gateway/connect", "v1/gateway/disconnect"} {
			for _, name := range []string{`"a/b"`, `"+"`, `"a#"`, `""`, `"."`, `".."`, `"a\u0000"`, `"a\n"`, `"\u0085"`, `"` + strings.Repeat("x", 256) + `"`, "5", "null", "{}"} {
				if got := answer(topic, `{"device":`+name+`}`); got != badName {
					t.Errorf("%s of %.20s: %#x", topic, name, got)
				}
			}
			for _, payload := range []string{"", "[]", "{", `{"name":"a"}`} {
				if got := answer(topic, payload); got != badName {
					t.Errorf("%s with %q: %#x", topic, payload, got)
				}
			}
		}
		for _, topic := range []string{"v1/gateway/claim", "v1/gateway/provision", "v1/gateway", "v1/gateway/g/a/telemetry", "v1/gateway/attributes/response"} {
			if got := answer(topic, `{"device":"a"}`); got != badTopic {
				t.Errorf("%s: %#x", topic, got)
			}
		}
		if s := b.Stats(); len(m.records()) != 0 || s.BadPayloads != 34 || s.Unsupported["gateway"] != 5 {
			t.Errorf("stored %v, stats %+v", m.records(), s)
		}
		long := strings.Repeat("ü", 255)
		if got := answer("v1/gateway/connect", `{"device":"`+long+`"}`); got != 0 || m.records()[0].payload != long {
			t.Errorf("a long name: %#x, %v", got, m.records())
		}
	})
}

// TestGatewayIsSentWhatConcernsTheDevicesBehindIt: other devices do not get it.
func TestGatewayIsSentWhatConcernsTheDevicesBehindIt(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := gatewayBroker(t)
		c := connectGateway(t, b, "g", login{version: version, id: "g"})
		other := connectGateway(t, b, "h", login{version: version, id: "h"})
		device := connect(t, b, "d", login{version: version, id: "d"})
		for _, filter := range []string{"v1/gateway/attributes", "v1/gateway/attributes/response", "v1/gateway/rpc"} {
			for _, c := range []*client{c, other} {
				if code := c.subscribe(filter, 1); code != 1 {
					t.Fatalf("SUBACK %#x for %s", code, filter)
				}
			}
			if code := device.subscribe(filter, 1); code < 0x80 {
				t.Errorf("a device may subscribe to %s", filter)
			}
		}
		for _, filter := range []string{"v1/gateway/connect", "v1/gateway/claim", "$share/x/v1/gateway/attributes", "v1/gateway/g/+/telemetry"} {
			if code := c.subscribe(filter, 1); code < 0x80 {
				t.Errorf("a gateway may subscribe to %s", filter)
			}
		}
		device.subscribe("v1/#", 1)
		const want = `{"device":"A \"1\"","data":{"interval":30}}`
		push := func() { b.PushAttributes(`g/A "1"`, []byte(`{"interval":30}`)) }
		push()
		if got := c.take(); got.topic != "v1/gateway/attributes" || got.payload != want || got.qos != 1 {
			t.Errorf("got %+v", got)
		}
		c.publish(message{topic: "v1/gateway/disconnect", payload: `{"device":"A \"1\""}`, qos: 1})
		push()
		b.PushAttributes("g/B", []byte(`{"deleted":["x"]}`))
		if got := c.take(); got.payload != `{"device":"B","data":{"deleted":["x"]}}` {
			t.Errorf("after a disconnect: %+v", got)
		}
		c.publish(message{topic: "v1/gateway/connect", payload: `{"device":"A \"1\""}`, qos: 1})
		push()
		if got := c.take(); got.payload != want {
			t.Errorf("after a connect: %+v", got)
		}
		got := c.ask("v1/gateway/attributes/request", "q", 0)
		if got.topic != "v1/gateway/attributes/response" || got.payload != "g asks q" {
			t.Errorf("answer %+v", got)
		}
		c.Send(c.encode(message{topic: "v1/gateway/attributes/request", payload: "bad", qos: 1, id: 6}))
		if code := c.Expect(packets.PUBACK).Code(); version == 5 && code != 0x99 {
			t.Errorf("a bad request: %#x", code)
		}
		for _, c := range []*client{c, other, device} {
			c.quiet()
		}
		if got := c.rpcLimits(); !strings.Contains(got, `"gatewayRateLimits":{"messages":null`) {
			t.Errorf("limits of a gateway: %s", got)
		}
		if got := device.rpcLimits(); strings.Contains(got, "gateway") {
			t.Errorf("limits of a device: %s", got)
		}
	})
}

// rpcLimits asks for the limits of the session.
func (c *client) rpcLimits() string {
	c.t.Helper()
	c.subscribe("v1/devices/me/rpc/response/+", 1)
	return c.ask("v1/devices/me/rpc/request/1", `{"method":"getSessionLimits"}`, 0).payload
}

// TestDeviceThatWasAGateway gets nothing of the devices that were behind it any more.
func TestDeviceThatWasAGateway(t *testing.T) {
	b, m := gatewayBroker(t)
	l := login{version: 5, id: "c", persist: true, props: prop32(0x11, 3600)}
	c := connectGateway(t, b, "g", l)
	c.subscribe("v1/gateway/attributes", 1)
	c.disconnect()
	eventually(t, "it is away", func() bool { return b.open() == 0 })
	b.PushAttributes("g/A", []byte(`{"a":1}`))
	if n := b.Stats().Queued; n != 1 {
		t.Fatalf("%d messages wait", n)
	}
	c = connect(t, b, "g", l)
	b.PushAttributes("g/A", []byte(`{"a":2}`))
	c.publish(message{topic: "v1/gateway/telemetry", payload: `{"A":[{"k":1}]}`, qos: 0})
	c.quiet()
	if len(m.records()) > 0 {
		t.Errorf("stored %v", m.records())
	}
}

// TestGatewayGetsWhatWasSentWhileItWasAwayAfterARestart: the session of a gateway is known as such
// before it connects again, and that of a device that hears everything is none.
func TestGatewayGetsWhatWasSentWhileItWasAwayAfterARestart(t *testing.T) {
	ends(t, func(t *testing.T, version byte, l *lives, end func()) {
		g := connectGateway(t, l.Broker, "g", persistent(version, "g"))
		g.subscribe("v1/gateway/attributes", 1)
		g.disconnect()
		d := connect(t, l.Broker, "d", persistent(version, "d"))
		d.subscribe("#", 1)
		d.disconnect()
		end()
		l.PushAttributes("g/A", []byte(`{"a":1}`))
		l.PushAttributes("d/A", []byte(`{"a":1}`))
		if n := l.Stats().Queued; n != 1 {
			t.Errorf("%d messages wait", n)
		}
		g = connectGateway(t, l.Broker, "g", persistent(version, "g"))
		if got := g.takeAll(1)[0]; got.topic != "v1/gateway/attributes" || got.payload != `{"device":"A","data":{"a":1}}` {
			t.Errorf("got %+v", got)
		}
		g.quiet()
	})
}

// TestDisconnectedChildrenAreBounded: the memory for the names of devices that a gateway has
// disconnected is limited.
func TestDisconnectedChildrenAreBounded(t *testing.T) {
	var g gateway
	name := func(i int) string { return fmt.Sprintf("%0250d", i) }
	for i := range 1000 {
		g.setAway(name(i))
		g.setAway(name(i))
	}
	if !g.isAway(name(0)) || g.isAway(name(999)) || g.bytes > awayBytes || len(g.away) != awayBytes/250 {
		t.Errorf("%d names with %d bytes", len(g.away), g.bytes)
	}
	for i := range 1000 {
		g.setBack(name(i))
	}
	if len(g.away) != 0 || g.bytes != 0 {
		t.Errorf("%d names with %d bytes are left", len(g.away), g.bytes)
	}
}

// FuzzChildIn: whatever name is accepted can stand in a topic.
func FuzzChildIn(f *testing.F) {
	for _, seed := range []string{`{"device":"A","type":"t"}`, `{device:A}`, `{"device":"a/b"}`, `{"device":"\u0000"}`, "{\"device\":\"\xff\"}", `{"device":"A","device":"B"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name, err := childIn(data)
		if err != nil {
			if _, bad := errors.AsType[*payload.Error](err); !bad {
				t.Errorf("error %v", err)
			}
			return
		}
		if gateway, child, ok := splitChild("g/" + name); !ok || gateway != "g" || child != name || CheckSubject(name) != nil && name != "me" {
			t.Errorf("name %q", name)
		}
	})
}

// TestWillsOfGateways are those of devices: one on a topic of gateways is counted and dropped.
func TestWillsOfGateways(t *testing.T) {
	b, m := gatewayBroker(t)
	for _, topic := range []string{"v1/gateway/telemetry", "v1/devices/me/telemetry"} {
		c := connectGateway(t, b, "g", login{id: "c", will: &lastWill{topic: topic, payload: `{"A":[{"k":1}]}`}})
		_ = c.Close()
	}
	eventually(t, "the wills are handled", func() bool { return len(m.records()) == 1 && b.Stats().Unsupported["gateway"] == 1 })
	if kinds := m.records(); !slices.ContainsFunc(kinds, func(r record) bool { return r.kind == "telemetry" }) {
		t.Errorf("stored %v", kinds)
	}
}
