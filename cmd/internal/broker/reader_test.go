package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// connectReader opens a connection of a reader and has it accepted.
func connectReader(t testing.TB, b *Broker, device string, l login) *client {
	t.Helper()
	nc, err := b.Dial(t.Context(), Device{Name: device, Reader: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{packetstest.New(t, nc, 4), t}
	connect := l.connect()
	c.Level = connect.Level
	c.Send(connect.Append(nil))
	if ack, err := c.ReadConnack(); err != nil || ack.Code != packets.Success {
		t.Fatalf("CONNACK %v, %v", ack.Code, err)
	}
	return c
}

// stored is a message as a store returns it.
func stored(ts int64, key string, v payload.Value) payload.Message {
	return payload.Message{TS: ts, Fields: []payload.Field{{Key: key, Value: v}}}
}

// lasting is a login whose session outlives its connection.
func lasting(version byte, id string) login {
	l := login{version: version, id: id, persist: true}
	if version == 5 {
		l.props = prop32(0x11, 3600)
	}
	return l
}

// TestReadersGetWhatIsStored: each reader whose filter matches, and no other client, whatever it has
// subscribed to.
func TestReadersGetWhatIsStored(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		var others []*client
		for i, filter := range []string{"#", "+/+/+/telemetry", "+/#", "v1/+/+/+", "v1/#", "v1/devices/me/#", "v1/devices/me/telemetry", "$share/g/#"} {
			c := connect(t, b, "pump-1", login{version: version, id: fmt.Sprint("device", i)})
			if code := c.subscribe(filter, 1); code != 1 {
				t.Fatalf("%s: SUBACK %#x", filter, code)
			}
			others = append(others, c)
		}
		for filter, want := range map[string]bool{
			"v1/devices/+/telemetry": true, "v1/devices/pump-1/telemetry": true, "v1/devices/pump-1/#": true, "v1/devices/#": true, "v1/devices/+/+": true,
			"#": true, "+/+/+/telemetry": true, "$share/g/v1/devices/+/telemetry": true, "$share/g/#": true,
			"v1/devices/me/telemetry": false, "v1/devices/me/#": false, "v1/devices/pump-2/#": false, "v1/devices/+/attributes": false,
		} {
			r := connectReader(t, b, "dashboard", login{version: version, id: "r"})
			if code := r.subscribe(filter, 1); code != 1 {
				t.Fatalf("%s: SUBACK %#x", filter, code)
			}
			_ = b.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(5, "t", payload.Double(25)), stored(-6, "on", payload.Bool(true))})
			if want {
				for _, data := range []string{`{"ts":5,"values":{"t":25.0}}`, `{"ts":-6,"values":{"on":true}}`} {
					if got := r.take(); got.topic != "v1/devices/pump-1/telemetry" || got.payload != data || got.qos != 1 || got.retain {
						t.Errorf("%s: got %+v, want %s", filter, got, data)
					}
				}
			}
			r.quietReader()
			r.Send([]byte{tDisconnect, 0})
			r.ExpectEnd()
		}
		for _, c := range others {
			c.Send(packet(tPingreq))
			c.Expect(packets.PINGRESP) // and nothing before it
		}
	})
}

// quietReader fails if there is a message for a reader, which cannot send itself one.
func (c *client) quietReader() {
	c.t.Helper()
	c.Send(packet(tPingreq))
	c.Expect(packets.PINGRESP)
}

// TestReadersGetAttributes: attributes come on a topic of their own, with the time at which they
// were set.
func TestReadersGetAttributes(t *testing.T) {
	b, _ := newBroker(t, nil)
	r := connectReader(t, b, "dashboard", login{id: "r"})
	r.subscribe("v1/devices/+/attributes", 1)
	_ = b.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(5, "t", payload.Long(1))})
	_ = b.PublishAttributes(t.Context(), "pump-1", 7, []payload.Field{{Key: "fw", Value: payload.Text("1.1")}})
	if got := r.take(); got.topic != "v1/devices/pump-1/attributes" || got.payload != `{"ts":7,"values":{"fw":"1.1"}}` {
		t.Errorf("got %+v", got)
	}
}

// TestReadersGetValidJSON: whatever a device has sent, with each value as it is stored.
func TestReadersGetValidJSON(t *testing.T) {
	b, _ := newBroker(t, nil)
	r := connectReader(t, b, "dashboard", login{id: "r"})
	r.subscribe("v1/devices/pump-1/telemetry", 1)
	for sent, want := range map[string]string{
		`{temperature:25}`:           `{"temperature":25}`,
		`{a:NaN,b:hello,c:'x\'y'}`:   `{"a":"NaN","b":"hello","c":"x'y"}`,
		"{\"u\":\"\xb0C\\u0000\"}":   `{"u":"�C\u0000"}`,
		`{"a":{b:[NaN,1e3,TRUE]}}`:   `{"a":{"b":["NaN",1e3,true]}}`,
		`{"a":1e400,"b":-0}`:         `{"a":"1` + strings.Repeat("0", 400) + `","b":0}`,
		`{"a":12345678901234567890}`: `{"a":"12345678901234567890"}`,
		`{"a":"007","b":"1e3"}`:      `{"a":7,"b":"1e3"}`,
	} {
		messages, err := payload.Parse([]byte(sent), time.UnixMilli(1000), payload.Options{})
		if err != nil {
			t.Fatalf("%s: %v", sent, err)
		}
		_ = b.PublishTelemetry(t.Context(), "pump-1", messages)
		var parsed struct {
			TS     int64
			Values json.RawMessage
		}
		got := r.take().payload
		if err := json.Unmarshal([]byte(got), &parsed); err != nil || parsed.TS != 1000 || string(parsed.Values) != want {
			t.Errorf("%s: got %s, %v, want %s", sent, got, err, want)
		}
	}
}

// TestOnlyReadersSubscribeToDevices: every other device gets 0x87, or 0x80 before MQTT 5.
func TestOnlyReadersSubscribeToDevices(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		want := byte(0x80)
		if version == 5 {
			want = 0x87
		}
		c := connect(t, b, "pump-1", login{version: version, id: "c"})
		r := connectReader(t, b, "dashboard", login{version: version, id: "r"})
		for _, filter := range []string{
			"v1/devices/+/telemetry", "v1/devices/pump-1/telemetry", "v1/devices/pump-1/#", "v1/devices/#", "v1/devices/+", "v1/devices/", "v1/devices/mee/telemetry",
			"$share/g/v1/devices/+/telemetry", "$SHARE/g/v1/devices/#", "v1/devices/+/presence",
		} {
			if code := c.subscribe(filter, 1); code != want {
				t.Errorf("a device gets %#x for %s, want %#x", code, filter, want)
			}
			if code := r.subscribe(filter, 1); code != 1 {
				t.Errorf("a reader gets %#x for %s, want 1", code, filter)
			}
		}
		for _, filter := range []string{"v1/devices/me/#", "v1/devices/me/attributes", "v1/devices/me", "v1/devices", "v1/+/pump-1/telemetry"} {
			if code := c.subscribe(filter, 1); code != 1 {
				t.Errorf("a device gets %#x for %s, want 1", code, filter)
			}
		}
	})
}

// TestNoClientPublishesToReaders: readers get only messages that were stored.
func TestNoClientPublishesToReaders(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		r := connectReader(t, b, "dashboard", login{version: version, id: "r"})
		r.subscribe("v1/devices/#", 1)
		c := connect(t, b, "pump-1", login{version: version, id: "c"})
		for _, topic := range []string{"v1/devices/pump-1/telemetry", "v1/devices/pump-2/telemetry", "v1/devices/pump-1/presence", "v1/devices/pump-1"} {
			c.Send(c.encode(message{topic: topic, payload: `{"ts":1,"values":{"t":1}}`, qos: 1, id: 1, retain: true}))
			want := byte(0)
			if version == 5 {
				want = 0x87
			}
			c.ExpectAck(packets.PUBACK, 1, packets.ReasonCode(want))
		}
		r.quietReader()
	})
}

// TestReadersThatAreAwayGetEverything: a reader that comes back gets all messages, in order.
func TestReadersThatAreAwayGetEverything(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		r := connectReader(t, b, "dashboard", lasting(version, "r"))
		r.subscribe("v1/devices/+/telemetry", 1)
		r.disconnect()
		eventually(t, "it is away", func() bool { return b.open() == 0 })
		const n = 100
		for i := range int64(n) {
			_ = b.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(i, "n", payload.Long(i))})
		}
		r = connectReader(t, b, "dashboard", lasting(version, "r"))
		for i, got := range r.takeAll(n) {
			if want := fmt.Sprintf(`{"ts":%d,"values":{"n":%d}}`, i, i); got.payload != want {
				t.Fatalf("message %d is %s", i, got.payload)
			}
		}
	})
}

// TestSessionOfAReaderThatIsNoneAnyMore: another token of the same name that goes on with the
// session gets nothing of what waited there, and nothing new.
func TestSessionOfAReaderThatIsNoneAnyMore(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		r := connectReader(t, b, "dashboard", lasting(version, "r"))
		r.subscribe("v1/devices/+/telemetry", 1)
		r.subscribe("#", 1)
		r.disconnect()
		eventually(t, "it is away", func() bool { return b.open() == 0 })
		publish := func() {
			_ = b.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(1, "n", payload.Long(1))})
		}
		publish()
		c := connect(t, b, "dashboard", lasting(version, "r"))
		publish()
		c.Send(packet(tPingreq))
		c.Expect(packets.PINGRESP)
		c.disconnect()
		eventually(t, "it is away again", func() bool { return b.open() == 0 })
		publish()
		if s := b.Stats(); s.Queued != 0 {
			t.Errorf("%d messages wait", s.Queued)
		}
		r = connectReader(t, b, "dashboard", lasting(version, "r"))
		publish()
		if got := r.take(); got.topic != "v1/devices/pump-1/telemetry" {
			t.Errorf("got %+v", got)
		}
		r.quietReader()
	})
}

// TestReadersShareTheWork: each message goes to one member of the group that is a reader.
func TestReadersShareTheWork(t *testing.T) {
	b, _ := newBroker(t, nil)
	device := connect(t, b, "pump-1", login{id: "device"})
	device.subscribe("$share/g/#", 1)
	var members []*client
	for i := range 2 {
		r := connectReader(t, b, "dashboard", login{id: fmt.Sprint("r", i)})
		r.subscribe("$share/g/#", 1)
		members = append(members, r)
	}
	const n = 50
	for i := range int64(n) {
		_ = b.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(i, "n", payload.Long(i))})
	}
	got := 0
	for _, r := range members {
		r.Send(packet(tPingreq))
		for {
			p, err := r.ReadPacket()
			if err != nil {
				t.Fatal(err)
			}
			if p.Type() == packets.PINGRESP {
				break
			}
			got++
		}
	}
	if got != n {
		t.Errorf("the readers have %d messages together, want %d", got, n)
	}
	device.Send(packet(tPingreq))
	device.Expect(packets.PINGRESP)
}

// TestWithoutReadersNothingIsDone: not even an allocation.
func TestWithoutReadersNothingIsDone(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "pump-1", login{id: "c"})
	c.subscribe("#", 1)
	messages := []payload.Message{stored(5, "t", payload.Double(25))}
	none := func() {
		t.Helper()
		if n := testing.AllocsPerRun(100, func() { _ = b.PublishTelemetry(t.Context(), "pump-1", messages) }); n != 0 {
			t.Errorf("%v allocations for a message", n)
		}
	}
	none()
	r := connectReader(t, b, "dashboard", login{id: "r"})
	r.disconnect()
	eventually(t, "the session of the reader has ended", func() bool { return b.ledger.readers.Load() == 0 })
	none()
}

// TestReadersGetWhatGatewaysSend: readers get the messages for devices behind gateways, and
// gateways do not.
func TestReadersGetWhatGatewaysSend(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		nc, err := b.Dial(t.Context(), Device{Name: "gate", Gateway: true})
		if err != nil {
			t.Fatal(err)
		}
		g := &client{packetstest.New(t, nc, version), t}
		g.Send(login{version: version, id: "gate"}.encode())
		if ack, err := g.ReadConnack(); err != nil || ack.Code != packets.Success {
			t.Fatal(ack.Code, err)
		}
		for filter, granted := range map[string]bool{"v1/gateway/#": true, "#": true, "v1/gateway/+/+/telemetry": false, "v1/gateway/gate/valve/telemetry": false, "$share/g/v1/gateway/+/+/telemetry": false} {
			if code := g.subscribe(filter, 1); (code == 1) != granted {
				t.Errorf("a gateway gets %#x for %s", code, filter)
			}
		}
		r := connectReader(t, b, "dashboard", lasting(version, "r"))
		for _, filter := range []string{"v1/gateway/+/+/telemetry", "$share/g/v1/gateway/gate/#"} {
			if code := r.subscribe(filter, 1); code != 1 {
				t.Errorf("a reader gets %#x for %s", code, filter)
			}
		}
		publish := func(n int64) {
			_ = b.PublishTelemetry(t.Context(), "gate/valve", []payload.Message{stored(n, "n", payload.Long(n))})
		}
		publish(1)
		if got := r.take(); got.topic != "v1/gateway/gate/valve/telemetry" || got.payload != `{"ts":1,"values":{"n":1}}` {
			t.Errorf("got %+v", got)
		}
		r.disconnect()
		eventually(t, "the reader is away", func() bool { return b.open() == 1 })
		publish(2)
		r = connectReader(t, b, "dashboard", lasting(version, "r"))
		if got := r.take(); got.payload != `{"ts":2,"values":{"n":2}}` {
			t.Errorf("after its return the reader got %+v", got)
		}
		g.quietReader()
	})
}

// TestQueueKeepsItsOrder: the order stays the same when packet identifiers start again from 1, also
// if the messages come at the same time.
func TestQueueKeepsItsOrder(t *testing.T) {
	b, _ := newBroker(t, nil)
	r := connectReader(t, b, "dashboard", lasting(4, "r"))
	r.subscribe("v1/devices/+/telemetry", 1)
	publish := func(n int64) {
		_ = b.PublishTelemetry(t.Context(), "pump-1", []payload.Message{stored(n, "n", payload.Long(n))})
	}
	const last = 65_535 // identifier
	for batch := int64(0); batch < last-100; batch += 1000 {
		n := min(1000, last-100-batch)
		for range n {
			publish(-1)
		}
		r.takeAll(int(n))
	}
	const n = 200
	for i := range int64(n) {
		publish(i)
	}
	r.Conn.Close()
	eventually(t, "it is away", func() bool { return b.open() == 0 })
	r = connectReader(t, b, "dashboard", lasting(4, "r"))
	before := r.takeAll(n)
	if before[0].id < before[n-1].id {
		t.Fatalf("the identifiers go from %d to %d", before[0].id, before[n-1].id)
	}
	for i, m := range before {
		if want := fmt.Sprintf(`{"ts":%d,"values":{"n":%d}}`, i, i); m.payload != want {
			t.Fatalf("message %d is %s", i, m.payload)
		}
	}
}
