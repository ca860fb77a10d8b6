package packetstest

import (
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// exchanges acts as the broker: it expects each packet and then sends its answer.
func exchanges(t *testing.T, conn net.Conn, all ...[2]string) {
	for _, e := range all {
		if raw, err := packets.ReadPacket(conn, 100); err != nil || string(raw) != e[0] {
			t.Errorf("got % x, %v; want % x", raw, err, e[0])
		}
		if _, err := conn.Write([]byte(e[1])); err != nil {
			t.Error(err)
		}
	}
	conn.Close()
}

// TestMessagesBeforeTheAnswerAreKept: a message of QoS 2 that arrives before the SUBACK is
// acknowledged in full and returned by Next.
func TestMessagesBeforeTheAnswerAreKept(t *testing.T) {
	near, far := net.Pipe()
	go exchanges(t, far,
		[2]string{"\x10\x15\x00\x04MQTT\x04\x82\x00\x3c\x00\x03abc\x00\x04word", "\x20\x02\x01\x00"},
		[2]string{"\x82\x06\x00\x01\x00\x01t\x02", "\x34\x06\x00\x01t\x00\x07x"},
		[2]string{"\x50\x02\x00\x07", "\x62\x02\x00\x07"},
		[2]string{"\x70\x02\x00\x07", "\x90\x03\x00\x01\x02"},
		[2]string{"\xe0\x00", ""})
	c, ack := Present(t, near, Identity(4, "abc", "word"))
	if !ack.SessionPresent || ack.Code != packets.Success {
		t.Errorf("CONNACK %+v", ack)
	}
	if code := c.Subscribe("t", 2); code != 2 {
		t.Errorf("SUBACK with %v", code)
	}
	if m, err := c.Next(time.Second); err != nil || string(m.Topic) != "t" || string(m.Payload) != "x" || m.QoS != 2 {
		t.Errorf("got %+v, %v", m, err)
	}
	c.Disconnect()
}

// TestAwaitEnd: AwaitEnd returns the reason of the DISCONNECT, and an error for a connection
// that does not end in time.
func TestAwaitEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write([]byte("\xe0\x02\x98\x00"))
			far.Close()
		}()
		if code, err := New(t, near, 5).AwaitEnd(time.Second); err != nil || code != packets.AdministrativeAction {
			t.Errorf("%v, %v", code, err)
		}
		near, far = net.Pipe()
		defer far.Close()
		start := time.Now()
		if _, err := New(t, near, 5).AwaitEnd(time.Minute); err == nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestPacket reads the body of a packet whose length has two bytes.
func TestPacket(t *testing.T) {
	p := Packet(slices.Concat([]byte{0x40, 0x80, 0x01, 0x12, 0x34, 0x87}, make([]byte, 125)))
	if p.Type() != packets.PUBACK || len(p.Body()) != 128 || p.PacketID() != 0x1234 || p.Code() != packets.NotAuthorized {
		t.Errorf("%v with %d bytes, packet %#x, code %v", p.Type(), len(p.Body()), p.PacketID(), p.Code())
	}
	if short := Packet("\x40\x02\x00\x01"); short.Code() != packets.Success {
		t.Errorf("code %v of a PUBACK without one", short.Code())
	}
}
