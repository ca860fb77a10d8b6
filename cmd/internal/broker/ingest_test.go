package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

var allVersions = []byte{3, 4, 5}

// versions runs a test once for each version of MQTT.
func versions(t *testing.T, f func(t *testing.T, version byte)) {
	for _, v := range allVersions {
		t.Run(map[byte]string{3: "3.1", 4: "3.1.1", 5: "5.0"}[v], func(t *testing.T) { f(t, v) })
	}
}

func TestDeviceDataIsStoredBeforeItIsAcknowledged(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		witness := connect(t, b, "witness", login{id: "w"})
		witness.subscribe("#", 2)
		witness.subscribe("v1/devices/me/telemetry", 2)
		c := connect(t, b, "d1", login{version: version, id: "c"})
		var want []record
		for _, topic := range []struct{ name, kind string }{
			{"v1/devices/me/telemetry", "telemetry"}, {"v2/t", "telemetry"}, {"v2/t/j", "telemetry"},
			{"v1/devices/me/attributes", "attributes"}, {"v2/a", "attributes"}, {"v2/a/j", "attributes"},
		} {
			for qos := byte(0); qos <= 2; qos++ {
				payload := fmt.Sprintf("%s at %d", topic.name, qos)
				c.publish(message{topic: topic.name, payload: payload, qos: qos, retain: qos == 1})
				want = append(want, record{topic.kind, "d1", payload})
				c.Ping()
				if got := m.records(); !slices.Equal(got, want) {
					t.Fatalf("stored %q, want %q", got, want)
				}
			}
		}
		witness.quiet()
		if s := b.Stats(); s.Stored != int64(len(want)) || s.Retained != 0 || s.Queued != 0 {
			t.Errorf("stats %+v, want %d stored, none retained or queued", s, len(want))
		}
	})
}

func TestPubackWaitsForTheStore(t *testing.T) {
	b, m := newBroker(t, nil)
	m.hold = make(chan struct{})
	c := connect(t, b, "d", login{id: "c"})
	other := connect(t, b, "e", login{id: "o"})
	c.Send(c.encode(message{topic: "v2/t", payload: "1", qos: 1, id: 7}))
	other.subscribe("x", 1)
	other.publish(message{topic: "y", qos: 1}) // another device is served meanwhile
	answered := make(chan packetstest.Packet, 1)
	go func() {
		f, _ := c.ReadPacket()
		answered <- f
	}()
	other.quiet()
	select {
	case <-answered:
		t.Fatal("acknowledged before it was stored")
	default:
	}
	close(m.hold)
	if f := <-answered; f.Type() != packets.PUBACK || f.PacketID() != 7 {
		t.Fatalf("got packet %#x, want PUBACK of 7", f[0])
	}
}

func TestBadPayloadIsAnsweredAndDropped(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		bad := message{topic: "v1/devices/me/telemetry", payload: "bad", id: 5}
		var code packets.ReasonCode
		if version == 5 {
			code = 0x99
		}
		c.Send(c.encode(bad))
		bad.qos = 1
		c.Send(c.encode(bad))
		c.ExpectAck(packets.PUBACK, 5, code)
		bad.qos = 2
		c.Send(c.encode(bad))
		c.ExpectAck(packets.PUBREC, 5, code)
		if version != 5 {
			c.Send(packet(tPubrel|2, u16(5)))
			c.ExpectAck(packets.PUBCOMP, 5, 0)
		}
		// The identifier is free again, the connection is as good as new.
		c.publish(message{topic: "v1/devices/me/telemetry", payload: "good", qos: 2, id: 5})
		c.quiet()
		if got := m.records(); len(got) != 1 || got[0].payload != "good" {
			t.Errorf("stored %q", got)
		}
		if s := b.Stats(); s.BadPayloads != 3 || s.Queued != 0 {
			t.Errorf("stats %+v, want 3 bad payloads, nothing queued", s)
		}
	})
}

// TestQuotaReached: the device learns that its payload is dropped because of a quota, or, before MQTT
// 5, gets its acknowledgement and does not send it for ever. There is one warning a day.
func TestQuotaReached(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		var log lockedText
		full := errors.New("too many keys")
		b, m := newBroker(t, func(o *Options) {
			store := o.Telemetry
			o.Telemetry = func(ctx context.Context, device string, payload []byte) error {
				if string(payload) == "full" {
					return full
				}
				return store(ctx, device, payload)
			}
			o.BadPayload = func(err error) bool { return err == full }
			o.OverQuota = o.BadPayload
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		c := connect(t, b, "d", login{version: version, id: "c"})
		var code packets.ReasonCode
		if version == 5 {
			code = 0x97
		}
		for id := range uint16(3) {
			c.Send(c.encode(message{topic: "v1/devices/me/telemetry", payload: "full", qos: 1, id: id + 1}))
			c.ExpectAck(packets.PUBACK, id+1, code)
		}
		c.publish(message{topic: "v1/devices/me/telemetry", payload: "good", qos: 1, id: 5})
		c.quiet()
		if got := m.records(); len(got) != 1 || b.Stats().BadPayloads != 3 {
			t.Errorf("stored %q, stats %+v", got, b.Stats())
		}
		if n := strings.Count(log.String(), "as much stored as it may have"); n != 1 {
			t.Errorf("%d warnings, want 1", n)
		}
	})
}

func TestUnstoredMessageIsNotAcknowledged(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		for qos := byte(1); qos <= 2; qos++ {
			t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
				b, m := newBroker(t, nil)
				m.fail(errors.New("disk full"))
				witness := connect(t, b, "witness", login{id: "w"})
				witness.subscribe("wills", 0)
				c := connect(t, b, "d", login{version: version, id: "c", will: &lastWill{topic: "wills", payload: "gone"}})
				msg := message{topic: "v2/t", payload: "1", qos: qos, id: 3}
				// Sent in one piece: the second message must not overtake the first.
				c.Send(join(c.encode(msg), c.encode(message{topic: "v2/t", payload: "2", qos: qos, id: 4})))
				if version == 5 {
					if f := c.Expect(packets.DISCONNECT); f.Body()[0] != 0x83 {
						t.Errorf("DISCONNECT code %#x, want 0x83", f.Body()[0])
					}
				}
				c.ExpectEnd()
				if w := witness.take(); w.payload != "gone" {
					t.Errorf("will = %q", w.payload)
				}
				m.fail(nil)
				again := connect(t, b, "d", login{version: version, id: "c"})
				msg.dup = true
				again.publish(msg)
				if got := m.records(); len(got) != 1 || got[0].payload != "1" {
					t.Errorf("stored %q, want the first message once", got)
				}
				if s := b.Stats(); s.StoreErrors != 1 {
					t.Errorf("%d store errors, want 1", s.StoreErrors)
				}
			})
		}
	})
}

func TestUnstoredQoS0IsCounted(t *testing.T) {
	b, m := newBroker(t, nil)
	m.fail(errors.New("disk full"))
	c := connect(t, b, "d", login{id: "c"})
	c.publish(message{topic: "v2/t", payload: "1"})
	c.quiet()
	if s := b.Stats(); s.StoreErrors != 1 || s.Stored != 0 {
		t.Errorf("stats %+v, want one store error", s)
	}
}

func TestStoreTimeout(t *testing.T) {
	b, m := newBroker(t, func(o *Options) { o.StoreTimeout = 1 })
	m.hold = make(chan struct{})
	c := connect(t, b, "d", login{id: "c"})
	c.Send(c.encode(message{topic: "v2/t", payload: "1", qos: 1, id: 3}))
	c.ExpectEnd()
}

func TestPanicOfTheStoreEndsOneConnection(t *testing.T) {
	b, _ := newBroker(t, nil)
	c, other := connect(t, b, "d", login{id: "c"}), connect(t, b, "e", login{id: "o"})
	c.Send(c.encode(message{topic: "v2/t", payload: "panic", qos: 1, id: 3}))
	c.ExpectEnd()
	other.publish(message{topic: "v2/t", payload: "1", qos: 1})
}

func TestDeviceTopicsWithoutAService(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, m := newBroker(t, nil)
		witness := connect(t, b, "witness", login{id: "w"})
		witness.subscribe("#", 0)
		witness.subscribe("v1/devices/me/rpc/request/+", 1)
		c := connect(t, b, "d", login{version: version, id: "c"})
		var unsupported, refused packets.ReasonCode
		if version == 5 {
			unsupported, refused = 0x90, 0x87
		}
		codes := map[string]packets.ReasonCode{
			"v1/devices/me/rpc/response/x": unsupported, "v1/devices/me": unsupported, "v1/gateway/telemetry": unsupported, "v2/t/p": unsupported,
			"v1/devices/me/rpc/request/x": unsupported, "v1/devices/me/claim": unsupported, "/provision/request": unsupported, "v2/fw/request/1/chunk/0": unsupported,
			"v1/devices/other/telemetry": refused, "v1/devices/": refused, "$SYS/broker/x": refused, "$share": refused, "$share/g/x": refused, "$": refused,
		}
		for topic, code := range codes {
			c.Send(c.encode(message{topic: topic, payload: "x", retain: true}))
			c.Send(c.encode(message{topic: topic, payload: "x", qos: 1, id: 1, retain: true}))
			c.ExpectAck(packets.PUBACK, 1, code)
			c.Send(c.encode(message{topic: topic, payload: "x", qos: 2, id: 2}))
			c.ExpectAck(packets.PUBREC, 2, code)
			if code == 0 {
				c.Send(packet(tPubrel|2, u16(2)))
				c.ExpectAck(packets.PUBCOMP, 2, 0)
			}
		}
		witness.quiet()
		want := map[string]int64{"other": 3, "claim": 3, "firmware": 3, "gateway": 3, "protobuf": 3, "provision": 3, "rpc": 6}
		if s := b.Stats(); !maps.Equal(s.Unsupported, want) || s.Refused != 6*3 || s.Retained != 0 || len(m.records()) != 0 {
			t.Errorf("stats %+v, stored %q", s, m.records())
		}
	})
}
