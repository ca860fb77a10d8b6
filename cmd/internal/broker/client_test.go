package broker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait of these tests; nothing waits that long unless it fails.
const patience = 5 * time.Second

// The packet types, shifted into the first byte of a packet.
const (
	tConnect, tConnack, tPublish, tPuback, tPubrec, tPubrel, tPubcomp              = 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70
	tSubscribe, tSuback, tUnsubscribe, tUnsuback, tPingreq, tPingresp, tDisconnect = 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0
)

// client speaks MQTT to the broker byte by byte, so that a test sees exactly what was sent.
type client struct {
	t       testing.TB
	conn    net.Conn
	r       *bufio.Reader
	version byte
}

// login is what a test wants in CONNECT.
type login struct {
	version   byte // 3, 4 or 5; 0x80 added for a bridge; default 4
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

func varint(n int) []byte {
	var b []byte
	for {
		digit := byte(n % 128)
		if n /= 128; n == 0 {
			return append(b, digit)
		}
		b = append(b, digit|0x80)
	}
}

func packet(first byte, body ...[]byte) []byte {
	b := join(body...)
	return join([]byte{first}, varint(len(b)), b)
}

func sized(b []byte) []byte { return join(varint(len(b)), b) }

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func prop32(id byte, n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{id}, n) }

// props returns a property block for MQTT 5 and nothing for older versions.
func (c *client) props(b []byte) []byte {
	if c.version != 5 {
		return nil
	}
	return sized(b)
}

func (l login) encode() []byte {
	level := l.version &^ bridgeBit
	name := "MQTT"
	if level == 3 {
		name = "MQIsdp"
	}
	var flags byte
	if !l.persist {
		flags |= 0x02
	}
	c := &client{version: level}
	var will []byte
	if w := l.will; w != nil {
		flags |= 0x04 | w.qos<<3
		if w.retain {
			flags |= 0x20
		}
		will = join(c.props(w.props), str(w.topic), str(w.payload))
	}
	return packet(tConnect, str(name), []byte{l.version, flags}, u16(l.keepAlive), c.props(l.props), str(l.id), will)
}

// dial opens a connection of the named device, with nothing sent yet.
func dial(t testing.TB, b *Broker, device string) *client {
	t.Helper()
	nc, err := b.Dial(t.Context(), device)
	if err != nil {
		t.Fatalf("Dial(%q): %v", device, err)
	}
	t.Cleanup(func() { nc.Close() })
	return &client{t: t, conn: nc, r: bufio.NewReader(nc), version: 4}
}

// connect opens a connection and has it accepted.
func connect(t testing.TB, b *Broker, device string, l login) *client {
	t.Helper()
	c, ack := connack(t, b, device, l)
	if ack.body[1] != 0 {
		t.Fatalf("CONNACK of %s = code %#x, want 0", device, ack.body[1])
	}
	return c
}

// connack opens a connection and returns the answer to CONNECT.
func connack(t testing.TB, b *Broker, device string, l login) (*client, frame) {
	t.Helper()
	if l.version == 0 {
		l.version = 4
	}
	c := dial(t, b, device)
	c.version = l.version &^ bridgeBit
	c.send(l.encode())
	return c, c.expect(tConnack)
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if err := c.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// frame is one packet received.
type frame struct {
	first byte
	body  []byte
}

func (f frame) kind() byte { return f.first & 0xF0 }
func (f frame) qos() byte  { return f.first >> 1 & 3 }
func (f frame) id() uint16 { return binary.BigEndian.Uint16(f.body) }

// code returns the reason code of an acknowledgement, where leaving it out means success.
func (f frame) code() byte {
	if len(f.body) < 3 {
		return 0
	}
	return f.body[2]
}

// next returns the next packet, or an error at the end of the connection.
func (c *client) next() (frame, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return frame{}, err
	}
	first, err := c.r.ReadByte()
	if err != nil {
		return frame{}, err
	}
	n, err := binary.ReadUvarint(c.r) // same encoding
	if err != nil {
		return frame{}, err
	}
	f := frame{first: first, body: make([]byte, n)}
	_, err = io.ReadFull(c.r, f.body)
	return f, err
}

// expect returns the next packet, which has to be of that type.
func (c *client) expect(kind byte) frame {
	c.t.Helper()
	f, err := c.next()
	if err != nil {
		c.t.Fatalf("waiting for packet type %#x: %v", kind, err)
	}
	if f.kind() != kind {
		c.t.Fatalf("got packet type %#x with %d bytes (% x), want type %#x", f.kind(), len(f.body), f.body[:min(len(f.body), 20)], kind)
	}
	return f
}

// expectClosed fails if anything but the end of the connection arrives.
func (c *client) expectClosed() {
	c.t.Helper()
	f, err := c.next()
	if err == nil {
		c.t.Fatalf("got packet type %#x (% x), want the connection closed", f.kind(), f.body[:min(len(f.body), 20)])
	}
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("connection is still open")
	}
}

// ping waits until the broker has dealt with all that was sent to it.
func (c *client) ping() {
	c.t.Helper()
	c.send([]byte{tPingreq, 0})
	c.expect(tPingresp)
}

// quiet fails if the broker has anything more to say. It takes the way of a message, which other packets may overtake.
func (c *client) quiet() {
	c.t.Helper()
	c.send(packet(tSubscribe|2, u16(1), c.props(nil), str("quiet"), []byte{0}))
	c.expect(tSuback)
	c.send(c.encode(message{topic: "quiet"}))
	if m := c.receive(); m.topic != "quiet" {
		c.t.Fatalf("got %+v, want nothing", m)
	}
	c.send(packet(tUnsubscribe|2, u16(1), c.props(nil), str("quiet")))
	c.expect(tUnsuback)
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
	first := byte(tPublish) | m.qos<<1
	if m.retain {
		first |= 1
	}
	if m.dup {
		first |= 8
	}
	var id []byte
	if m.qos > 0 {
		id = u16(m.id)
	}
	return packet(first, str(m.topic), id, c.props(m.props), []byte(m.payload))
}

// publish sends a message and goes through its acknowledgements.
func (c *client) publish(m message) {
	c.t.Helper()
	if m.qos > 0 && m.id == 0 {
		m.id = 1
	}
	c.send(c.encode(m))
	switch m.qos {
	case 1:
		c.acknowledged(tPuback, m.id, 0)
	case 2:
		c.acknowledged(tPubrec, m.id, 0)
		c.send(packet(tPubrel|2, u16(m.id)))
		c.acknowledged(tPubcomp, m.id, 0)
	}
}

// acknowledged checks the next packet.
func (c *client) acknowledged(kind byte, id uint16, code byte) {
	c.t.Helper()
	if f := c.expect(kind); f.id() != id || f.code() != code {
		c.t.Fatalf("acknowledgement %#x = id %d, code %#x, want id %d, code %#x", kind, f.id(), f.code(), id, code)
	}
}

func (c *client) decode(f frame) message {
	c.t.Helper()
	if f.kind() != tPublish {
		c.t.Fatalf("got packet type %#x, want PUBLISH", f.kind())
	}
	m := message{qos: f.qos(), retain: f.first&1 != 0, dup: f.first&8 != 0}
	b := f.body
	n := int(binary.BigEndian.Uint16(b))
	m.topic, b = string(b[2:2+n]), b[2+n:]
	if m.qos > 0 {
		m.id, b = binary.BigEndian.Uint16(b), b[2:]
	}
	if c.version == 5 {
		n, w := binary.Uvarint(b)
		m.props, b = b[w:w+int(n)], b[w+int(n):]
	}
	m.payload = string(b)
	return m
}

// receive returns the next message, which it does not acknowledge.
func (c *client) receive() message {
	c.t.Helper()
	return c.decode(c.expect(tPublish))
}

// take returns the next message after acknowledging it as far as its QoS asks.
func (c *client) take() message {
	c.t.Helper()
	m := c.receive()
	switch m.qos {
	case 1:
		c.send(packet(tPuback, u16(m.id)))
	case 2:
		c.send(packet(tPubrec, u16(m.id)))
		c.acknowledged(tPubrel, m.id, 0)
		c.send(packet(tPubcomp, u16(m.id)))
	}
	return m
}

// takeAll returns the next n messages, whose acknowledgements it interleaves as they come.
func (c *client) takeAll(n int) []message {
	c.t.Helper()
	var all []message
	for releases := 0; len(all) < n || releases > 0; {
		f, err := c.next()
		switch {
		case err != nil:
			c.t.Fatalf("%d of %d messages: %v", len(all), n, err)
		case f.kind() == tPubrel:
			c.send(packet(tPubcomp, u16(f.id())))
			releases--
			continue
		}
		m := c.decode(f)
		all = append(all, m)
		switch m.qos {
		case 1:
			c.send(packet(tPuback, u16(m.id)))
		case 2:
			c.send(packet(tPubrec, u16(m.id)))
			releases++
		}
	}
	return all
}

// subscribe subscribes to one filter, with MQTT 5 options in the upper bits of qos, and returns the code of the SUBACK.
func (c *client) subscribe(filter string, qos byte) byte {
	c.t.Helper()
	c.send(packet(tSubscribe|2, u16(9), c.props(nil), str(filter), []byte{qos}))
	f := c.expect(tSuback)
	if f.id() != 9 {
		c.t.Fatalf("SUBACK has id %d, want 9", f.id())
	}
	return f.body[len(f.body)-1]
}

func (c *client) disconnect() {
	c.t.Helper()
	c.send([]byte{tDisconnect, 0})
	c.expectClosed()
}

// hasProp tells whether the bytes of a property are somewhere in a packet.
func hasProp(b, prop []byte) bool { return bytes.Contains(b, prop) }

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
