package broker

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// newTestEgress returns an egress with nothing in front of it, and the device's end.
func newTestEgress(t *testing.T) (*egress, *client, *[]uint16) {
	t.Helper()
	near, far, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEgress(near, patience)
	if err != nil {
		t.Fatal(err)
	}
	var drains sync.WaitGroup
	var dropped []uint16
	e.spawn = drains.Go
	e.drop = func(id uint16, _ dropCause) { dropped = append(dropped, id) }
	t.Cleanup(func() {
		e.close()
		far.Close()
		drains.Wait()
	})
	return e, &client{packetstest.New(t, far, 4), t}, &dropped
}

func TestEgressNeverWaits(t *testing.T) {
	e, c, dropped := newTestEgress(t)
	pub := func(qos byte, id uint16) []byte {
		return c.encode(message{topic: "x", payload: big(10_000), qos: qos, id: id})
	}
	// Far beyond the socket's buffer and the high water mark; the device does not read.
	const n = 1500
	for id := range uint16(n) {
		for _, p := range [][]byte{pub(0, 0), pub(1, id+1)} {
			if err := e.send(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := e.send([]byte{tPingresp, 0}); err != nil {
		t.Fatal(err)
	}
	if n := len(*dropped); n == 0 || slices.ContainsFunc(*dropped, func(id uint16) bool { return id != 0 }) {
		t.Errorf("%d messages dropped, want some, all of QoS 0", n)
	}
	e.mu.Lock()
	if e.unread > highWater+20_000 {
		t.Errorf("%d bytes in memory, want about %d", e.unread, highWater)
	}
	e.mu.Unlock()
	var next uint16 = 1
	pings := 0
	for next <= n {
		f, err := c.ReadPacket()
		if err != nil {
			t.Fatalf("after %d messages: %v", next-1, err)
		}
		if f.Type() == packets.PINGRESP {
			pings++
			continue
		}
		if m := c.decode(f); m.qos == 1 {
			if m.id != next {
				t.Fatalf("message %d, want %d", m.id, next)
			}
			next++
		}
	}
	if pings != 1 {
		t.Errorf("%d PINGRESP, want 1", pings)
	}
}

func TestEgressReceiveMaximum(t *testing.T) {
	e, c, _ := newTestEgress(t)
	e.connect(5, 2, 0)
	for id := range uint16(5) {
		if err := e.send(c.encode(message{topic: "x", qos: 1, id: id + 1})); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.send([]byte{tPingresp, 0}); err != nil {
		t.Fatal(err)
	}
	sent := func() (ids []uint16) {
		for {
			f, err := c.ReadPacket()
			if err != nil {
				t.Fatal(err)
			}
			if f.Type() == packets.PINGRESP {
				return ids
			}
			ids = append(ids, c.decode(f).id)
		}
	}
	if got := sent(); !slices.Equal(got, []uint16{1, 2}) {
		t.Errorf("sent %d, want 1 and 2", got)
	}
	for _, id := range []uint16{77, 2, 2} { // of which only one is an acknowledgement
		e.acked(id)
	}
	e.send([]byte{tPingresp, 0})
	if got := sent(); !slices.Equal(got, []uint16{3}) {
		t.Errorf("sent %d, want 3", got)
	}
	e.acked(1)
	e.acked(3)
	e.send([]byte{tPingresp, 0})
	if got := sent(); !slices.Equal(got, []uint16{4, 5}) {
		t.Errorf("sent %d, want 4 and 5", got)
	}
}

func TestEgressEndsWithDisconnect(t *testing.T) {
	for _, version := range []byte{4, 5} {
		e, c, _ := newTestEgress(t)
		e.connect(version, 1, 0)
		send := func(b []byte) {
			if err := e.send(b); err != nil {
				t.Error(err)
			}
		}
		send(c.encode(message{topic: "x", qos: 1, id: 1}))
		send(c.encode(message{topic: "x", qos: 1, id: 2})) // held
		send([]byte{tDisconnect, 0})
		send([]byte{tPingresp, 0})
		send(c.encode(message{topic: "x"}))
		e.acked(1)
		e.close()
		c.Expect(packets.PUBLISH)
		if version == 5 {
			c.Expect(packets.DISCONNECT)
		}
		c.ExpectEnd()
		if err := e.send([]byte{tPingresp, 0}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("send after close: %v", err)
		}
	}
}

func TestEgressTooLarge(t *testing.T) {
	e, c, dropped := newTestEgress(t)
	e.connect(5, 0, 30)
	for _, m := range []message{{payload: big(100)}, {payload: big(100), qos: 1, id: 9}, {payload: "fits", qos: 1, id: 10}} {
		m.topic = "x"
		if err := e.send(c.encode(m)); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.receive(); got.payload != "fits" {
		t.Errorf("got %+v", got)
	}
	if !slices.Equal(*dropped, []uint16{0, 9}) {
		t.Errorf("dropped %d, want 0 and 9", *dropped)
	}
}

// A device that makes the broker answer and reads nothing must not fill the memory.
func TestEgressUnreadLimit(t *testing.T) {
	e, _, _ := newTestEgress(t)
	answer := make([]byte, 1000)
	answer[0] = tSuback
	for range 2 * unreadLimit / len(answer) {
		if err := e.send(answer); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed with %v", err)
			}
			return
		}
	}
	t.Error("still open")
}

// more is more than any socket holds.
var more = packet(tSuback, make([]byte, 16<<20))

func TestEgressStall(t *testing.T) {
	e, _, _ := newTestEgress(t)
	e.timeout = 50 * time.Millisecond
	if err := e.send(more); err != nil { // which the device does not read
		t.Fatal(err)
	}
	e.mu.Lock()
	for !e.closed {
		e.progress.Wait()
	}
	e.mu.Unlock()
}

// deadlines is a socket that remembers its last write deadline.
type deadlines struct {
	net.Conn
	last atomic.Pointer[time.Time]
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.last.Store(&t)
	return d.Conn.SetWriteDeadline(t)
}

// TestEgressLeavesNoDeadline behind a drain, which would close a connection that has nothing to write.
func TestEgressLeavesNoDeadline(t *testing.T) {
	e, c, _ := newTestEgress(t)
	socket := &deadlines{Conn: e.socket}
	e.socket = socket
	if err := e.send(more); err != nil {
		t.Fatal(err)
	}
	c.Expect(packets.SUBACK)
	eventually(t, "the end of the drain", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return !e.draining
	})
	if last := socket.last.Load(); last == nil || !last.IsZero() {
		t.Errorf("the last write deadline is %v", last)
	}
}

func TestPublishID(t *testing.T) {
	c := &client{Client: &packetstest.Client{Level: 4}}
	for _, m := range []message{
		{topic: "x", qos: 1, id: 1}, {topic: big(300), qos: 2, id: 65535}, {topic: "x", payload: big(3 << 20), qos: 1, id: 513}, {topic: "", payload: "x"},
	} {
		if got := publishID(c.encode(m)); got != m.id {
			t.Errorf("identifier %d, want %d", got, m.id)
		}
	}
}
