package broker

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// patience bounds every wait of these tests; nothing waits that long unless it fails.
const patience = 30 * time.Second

// The packet types, shifted into the first byte of a packet.
const (
	tConnect, tConnack, tPublish, tPuback, tPubrec, tPubrel, tPubcomp              = 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70
	tSubscribe, tSuback, tUnsubscribe, tUnsuback, tPingreq, tPingresp, tDisconnect = 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0
)

// client is a device's end of a connection to the broker.
type client struct {
	*packetstest.Client
	t testing.TB
}

// login is what a test wants in CONNECT.
type login struct {
	version   byte // 3, 4 or 5, 0 for 4; bridgeBit added for a bridge
	id        string
	persist   bool // no clean session, or no clean start
	keepAlive uint16
	props     []byte
	will      *lastWill
}

type lastWill struct {
	topic, payload string
	qos            byte
	retain         bool
	props          []byte
}

func str(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// packet returns a packet that need not be one that the standard allows.
func packet(first byte, body ...[]byte) []byte { return join([]byte{first}, sized(join(body...))) }

// sized returns b with its length before it.
func sized(b []byte) []byte { return join(binary.AppendUvarint(nil, uint64(len(b))), b) }

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func prop32(id byte, n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{id}, n) }

// props returns a property block for MQTT 5 and nothing for older versions.
func (c *client) props(b []byte) []byte {
	if c.Level != 5 {
		return nil
	}
	return sized(b)
}

func (l login) connect() *packets.Connect {
	c := &packets.Connect{
		Level: l.version &^ bridgeBit, Bridge: l.version&bridgeBit != 0,
		ClientID: l.id, CleanStart: !l.persist, KeepAlive: l.keepAlive, Properties: l.props,
	}
	if c.Level == 0 {
		c.Level = 4
	}
	if w := l.will; w != nil {
		c.HasWill = true
		c.Will = packets.Will{Topic: w.topic, Payload: []byte(w.payload), QoS: w.qos, Retain: w.retain, Properties: w.props}
	}
	return c
}

func (l login) encode() []byte { return l.connect().Append(nil) }

// dial opens a connection of the named device, with nothing sent yet.
func dial(t testing.TB, b *Broker, device string) *client {
	t.Helper()
	return dialLimited(t, b, device, Limits{})
}

// dialLimited opens a connection of a device that must keep to limits.
func dialLimited(t testing.TB, b *Broker, device string, limits Limits) *client {
	t.Helper()
	nc, err := b.Dial(t.Context(), Device{Name: device, Limits: limits})
	if err != nil {
		t.Fatalf("Dial(%q): %v", device, err)
	}
	return &client{packetstest.New(t, nc, 4), t}
}

// connect opens a connection and has it accepted.
func connect(t testing.TB, b *Broker, device string, l login) *client {
	t.Helper()
	c, ack := connack(t, b, device, l)
	if ack.Code != packets.Success {
		t.Fatalf("CONNACK of %s = code %#x, want 0", device, ack.Code)
	}
	return c
}

// connack opens a connection and returns the answer to CONNECT.
func connack(t testing.TB, b *Broker, device string, l login) (*client, packets.Connack) {
	t.Helper()
	c, connect := dial(t, b, device), l.connect()
	c.Level = connect.Level
	c.Send(connect.Append(nil))
	ack, err := c.ReadConnack()
	if err != nil {
		t.Fatal(err)
	}
	return c, ack
}

// quiet fails if the broker has anything more to send. It uses a message, which other packets
// may overtake.
func (c *client) quiet() {
	c.t.Helper()
	c.subscribe("quiet", 0)
	c.Send(c.encode(message{topic: "quiet"}))
	if m := c.receive(); m.topic != "quiet" {
		c.t.Fatalf("got %+v, want nothing", m)
	}
	c.Send(packet(tUnsubscribe|2, u16(1), c.props(nil), str("quiet")))
	c.Expect(packets.UNSUBACK)
}

// message is a PUBLISH as a test sees it.
type message struct {
	topic, payload string
	qos            byte
	retain, dup    bool
	id             uint16
	props          []byte
}

func (c *client) encode(m message) []byte {
	p := packets.Publish{
		Topic: []byte(m.topic), Payload: []byte(m.payload), QoS: m.qos, Retain: m.retain, Dup: m.dup,
		PacketID: m.id, Properties: m.props,
	}
	return p.Append(nil, c.Level)
}

func decoded(p packets.Publish) message {
	return message{
		topic: string(p.Topic), payload: string(p.Payload), qos: p.QoS, retain: p.Retain, dup: p.Dup,
		id: p.PacketID, props: p.Properties,
	}
}

// publish sends a message and goes through its acknowledgements.
func (c *client) publish(m message) {
	c.t.Helper()
	if m.qos > 0 && m.id == 0 {
		m.id = 1
	}
	c.Send(c.encode(m))
	switch m.qos {
	case 1:
		c.ExpectAck(packets.PUBACK, m.id, 0)
	case 2:
		c.ExpectAck(packets.PUBREC, m.id, 0)
		c.Send(packet(tPubrel|2, u16(m.id)))
		c.ExpectAck(packets.PUBCOMP, m.id, 0)
	}
}

func (c *client) decode(raw packetstest.Packet) message {
	c.t.Helper()
	var p packets.Publish
	if _, err := p.Parse(raw, c.Level); err != nil {
		c.t.Fatal(err)
	}
	return decoded(p)
}

// receive returns the next message, which it does not acknowledge.
func (c *client) receive() message {
	c.t.Helper()
	return c.decode(c.Expect(packets.PUBLISH))
}

// take returns the next message after acknowledging it as far as its QoS asks.
func (c *client) take() message {
	c.t.Helper()
	p, err := c.Next(patience)
	if err != nil {
		c.t.Fatal(err)
	}
	return decoded(p)
}

// takeAll returns the next n messages, whose acknowledgements it interleaves as they come.
func (c *client) takeAll(n int) []message {
	c.t.Helper()
	var all []message
	for releases := 0; len(all) < n || releases > 0; {
		f, err := c.ReadPacket()
		switch {
		case err != nil:
			c.t.Fatalf("%d of %d messages: %v", len(all), n, err)
		case f.Type() == packets.PUBREL:
			c.Send(packet(tPubcomp, u16(f.PacketID())))
			releases--
			continue
		}
		m := c.decode(f)
		all = append(all, m)
		switch m.qos {
		case 1:
			c.Send(packet(tPuback, u16(m.id)))
		case 2:
			c.Send(packet(tPubrec, u16(m.id)))
			releases++
		}
	}
	return all
}

// subscribe subscribes to one filter, with MQTT 5 options in the upper bits of qos, and returns
// the code of the SUBACK.
func (c *client) subscribe(filter string, qos byte) byte {
	c.t.Helper()
	c.Send(packet(tSubscribe|2, u16(9), c.props(nil), str(filter), []byte{qos}))
	f := c.Expect(packets.SUBACK)
	if f.PacketID() != 9 {
		c.t.Fatalf("SUBACK has id %d, want 9", f.PacketID())
	}
	return f.Body()[len(f.Body())-1]
}

func (c *client) disconnect() {
	c.t.Helper()
	c.Send([]byte{tDisconnect, 0})
	c.ExpectEnd()
}

// eventually waits for what the broker does after the last packet a test can see.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not so: %s", what)
		}
	}
}

func big(n int) string { return strings.Repeat("x", n) }
