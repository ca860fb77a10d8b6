//go:build integration && linux

package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestGreedyDevice: one device of the bundled broker retains and queues more than the
// process may hold. It is refused, the process stays within limits.memory, and other
// devices are not affected.
func TestGreedyDevice(t *testing.T) {
	const limit, messages = 300 << 20, 250
	p := harness.NewProxy(t, "limits: {memory: 300MiB}\n")
	greedy, modest := p.Token("greedy"), p.Token("modest")
	p.Start()
	for i := range 3 {
		absent := packetstest.Identity(4, fmt.Sprintf("absent-%d", i), greedy)
		absent.CleanStart = false
		d := packetstest.Connect(t, packetstest.Dial(t, p.Plain), absent)
		d.MustSubscribe("fill/#", 1)
		if _, err := d.Conn.Write((&packets.Disconnect{}).Append(nil, 4)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.AwaitEnd(harness.Patience); err != nil {
			t.Fatal(err)
		}
	}
	d := p.Connect(t, 5, "greedy", greedy)
	refused := 0
	for i := range messages {
		retained := packets.Publish{QoS: 1, Retain: true, Topic: fmt.Appendf(nil, "fill/%d", i), PacketID: d.NextID(), Payload: make([]byte, 1<<20)}
		if _, err := d.Conn.Write(retained.Append(nil, 5)); err != nil {
			t.Fatal(err)
		}
		raw, err := d.ReadType(packets.PUBACK)
		if err != nil {
			t.Fatal(err)
		}
		var ack packets.Ack
		if err := ack.Parse(raw, 5); err != nil {
			t.Fatal(err)
		}
		if ack.Code == 0x97 {
			refused++
		}
	}
	if used := harness.Memory(t, p); refused < messages-70 || used > limit {
		t.Errorf("%d of %d messages refused, the process takes %d MiB", refused, messages, used>>20)
	}

	other := p.Connect(t, 5, "modest", modest)
	other.MustSubscribe("mine", 1)
	publisher := p.Connect(t, 4, "modest-too", modest)
	if err := errors.Join(publisher.Publish("mine", strings.Repeat("x", 100_000)), publisher.Publish("v1/devices/me/telemetry", `{"t":1}`)); err != nil {
		t.Error("another device:", err)
	}
	if got, err := other.Next(harness.Patience); err != nil || len(got.Payload) != 100_000 {
		t.Errorf("another device got %d bytes, %v", len(got.Payload), err)
	}
	if !p.HasMetric("mqtt_auth_proxy_memory_full 0") {
		t.Error("new connections are refused because memory is used up")
	}
}
