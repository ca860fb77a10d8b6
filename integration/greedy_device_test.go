//go:build integration && linux

package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestGreedyDevice: one device of the bundled broker retains and queues more than the
// process may take. It is told so; the process stays within limits.memory, and other
// devices connect, retain and get their messages as if nothing were.
func TestGreedyDevice(t *testing.T) {
	const limit, messages = 300 << 20, 250
	p := newProxy(t, "limits: {memory: 300MiB}\n")
	greedy, modest := p.token("greedy"), p.token("modest")
	p.start()
	for i := range 3 {
		absent := identity(4, fmt.Sprintf("absent-%d", i), greedy)
		absent.CleanStart = false
		d := connect(t, dial(t, p.plain), absent)
		d.subscribe(t, "fill/#", 1)
		if _, err := d.conn.Write((&packets.Disconnect{}).Append(nil, 4)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.farewell(patience); err != nil {
			t.Fatal(err)
		}
	}
	d := connect(t, dial(t, p.plain), identity(5, "greedy", greedy))
	refused := 0
	for i := range messages {
		retained := packets.Publish{QoS: 1, Retain: true, Topic: fmt.Appendf(nil, "fill/%d", i), PacketID: d.nextID(), Payload: make([]byte, 1<<20)}
		if _, err := d.conn.Write(retained.Append(nil, 5)); err != nil {
			t.Fatal(err)
		}
		raw, err := d.readType(packets.PUBACK)
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
	if used := memory(t, p); refused < messages-70 || used > limit {
		t.Errorf("%d of %d messages refused, the process takes %d MiB", refused, messages, used>>20)
	}

	other := connect(t, dial(t, p.plain), identity(5, "modest", modest))
	other.subscribe(t, "mine", 1)
	publisher := connect(t, dial(t, p.plain), identity(4, "modest-too", modest))
	if err := errors.Join(publisher.publish("mine", strings.Repeat("x", 100_000)), publisher.publish("v1/devices/me/telemetry", `{"t":1}`)); err != nil {
		t.Error("another device:", err)
	}
	if got, err := other.next(patience); err != nil || len(got.Payload) != 100_000 {
		t.Errorf("another device got %d bytes, %v", len(got.Payload), err)
	}
	if !p.counts("mqtt_auth_proxy_memory_full 0") {
		t.Error("newcomers are turned away for want of memory")
	}
}
