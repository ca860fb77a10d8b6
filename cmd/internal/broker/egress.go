package broker

import (
	"encoding/binary"
	"errors"
	"math"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// highWater is how many bytes may be unread before messages of QoS 0 are dropped and
	// others held back.
	highWater = 1 << 20
	// unreadLimit is how many bytes may be unread, answers included, before the device is
	// disconnected.
	unreadLimit = 4 << 20
)

// egress writes the packets of one connection. mochi writes while it holds the client's lock,
// so a write that waits would also stop every publisher to that client, and every connection
// that takes its session over. A write therefore never waits: what the socket does not take
// is kept and drained in the background. Messages of QoS 1 and 2 beyond the client's Receive
// Maximum are held back in order, which mochi's own flow control does not do.
type egress struct {
	socket   net.Conn
	try      *tryWriter
	timeout  time.Duration                    // how long the device may read nothing
	spawn    func(func())                     // runs the drain as work of the broker
	drop     func(id uint16, cause dropCause) // called for each message dropped; id 0 is QoS 0
	note     func(unread, copies int)         // called with how many more bytes are kept
	full     func() bool                      // reports whether the device may keep no more
	mu       sync.Mutex                       // guards everything below
	progress sync.Cond                        // unread became smaller, or the end

	version        byte
	receiveMax     int  // messages of QoS 1 and 2 the client takes at once
	maxPacket      int  // bytes the client takes at once, 0 for no limit
	disconnected   bool // DISCONNECT was sent, or the device has gone: nothing follows
	closed         bool
	draining       bool
	unread         int    // bytes in backlog and in the drain's hands
	backlog        []byte // not yet in the drain's hands
	unacknowledged map[uint16]struct{}
	held           []heldMessage
	heldBytes      int
	notedUnread    int // the unread and heldBytes that note has been called with
	notedHeld      int
}

type heldMessage struct {
	id    uint16
	bytes []byte
}

func newEgress(socket net.Conn, timeout time.Duration) (*egress, error) {
	try, err := newTryWriter(socket)
	if err != nil {
		return nil, err
	}
	e := &egress{
		socket: socket, try: try, timeout: timeout, receiveMax: math.MaxUint16,
		note: func(int, int) {}, full: func() bool { return false },
	}
	e.progress.L = &e.mu
	return e, nil
}

// connect sets the limits of the client from CONNECT. Zero means no limit.
func (e *egress) connect(version byte, receiveMax uint16, maxPacket uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.version = version
	e.maxPacket = int(min(maxPacket, math.MaxInt32))
	if receiveMax > 0 {
		e.receiveMax = int(receiveMax)
	}
}

// send sends one packet. It fails only if the connection is closed.
func (e *egress) send(packet []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.report()
	if e.closed {
		return net.ErrClosed
	}
	switch kind := packet[0] >> 4; {
	case kind == packets.Publish:
		e.publish(packet)
	case e.disconnected:
	case kind == packets.Disconnect:
		e.disconnected = true
		if e.version == 5 { // before that, a server has no DISCONNECT to send
			e.put(packet)
		}
	default:
		e.put(packet)
	}
	return nil
}

// publish sends, holds or drops a PUBLISH. Called with mu held.
func (e *egress) publish(packet []byte) {
	id := publishID(packet)
	switch {
	case e.maxPacket > 0 && len(packet) > e.maxPacket: // as if delivered [MQTT-3.1.2-25]
		e.drop(id, dropTooLarge)
	case id == 0 && (e.unread >= highWater || e.draining && e.full()):
		e.drop(0, dropSlow)
	case e.disconnected:
	case id == 0:
		e.put(packet)
	case len(e.held) > 0 || !e.room():
		e.held = append(e.held, heldMessage{id, slices.Clone(packet)})
		e.heldBytes += len(packet)
	default:
		e.deliver(id, packet)
	}
}

// acked records that the exchange for an outbound message is complete.
func (e *egress) acked(id uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.unacknowledged, id)
	e.release()
	e.report()
}

// room reports whether a message of QoS 1 or 2 may be sent now. Called with mu held.
func (e *egress) room() bool {
	return !e.disconnected && !e.closed && len(e.unacknowledged) < e.receiveMax && e.unread < highWater
}

// ready reports whether a message of any QoS would be sent at once.
func (e *egress) ready() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.held) == 0 && e.room()
}

// release sends held messages, as far as there is room. e.mu is held.
func (e *egress) release() {
	for len(e.held) > 0 && e.room() {
		next := e.held[0]
		e.held[0] = heldMessage{}
		e.held = e.held[1:]
		e.heldBytes -= len(next.bytes)
		e.deliver(next.id, next.bytes)
	}
	if len(e.held) == 0 {
		e.held = nil
	}
}

func (e *egress) deliver(id uint16, packet []byte) {
	if e.unacknowledged == nil {
		e.unacknowledged = make(map[uint16]struct{})
	}
	e.unacknowledged[id] = struct{}{}
	e.put(packet)
}

// put writes what the socket accepts and keeps the rest. e.mu is held.
func (e *egress) put(packet []byte) {
	if !e.draining {
		n, err := e.try.write(packet)
		if err != nil {
			e.mute()
			return
		}
		packet = packet[n:]
	}
	if len(packet) == 0 {
		return
	}
	if e.unread >= unreadLimit {
		e.shut()
		return
	}
	e.backlog = append(e.backlog, packet...)
	e.unread += len(packet)
	if !e.draining {
		e.draining = true
		e.spawn(e.drain)
	}
}

// drain writes the backlog and returns when it is empty.
func (e *egress) drain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.backlog) > 0 && !e.closed {
		b := e.backlog
		e.backlog = nil
		e.mu.Unlock()
		err := e.flush(b)
		e.mu.Lock()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			e.shut()
		case err != nil:
			e.mute()
		}
		e.release()
		e.report()
	}
	e.draining = false
	// A deadline in the past would fail the next attempt.
	_ = e.socket.SetWriteDeadline(time.Time{})
}

// flush writes all of b, unless the device reads nothing for the timeout.
func (e *egress) flush(b []byte) error {
	for len(b) > 0 {
		if err := e.socket.SetWriteDeadline(time.Now().Add(e.timeout)); err != nil {
			return err
		}
		n, err := e.socket.Write(b)
		b = b[n:]
		e.mu.Lock()
		e.unread = max(0, e.unread-n) // it is 0 already if the device has gone
		e.report()
		e.progress.Broadcast()
		e.mu.Unlock()
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
	}
	return nil
}

// wait returns when fewer than highWater bytes are unread, or at the end of the connection. Only
// the goroutine that reads from the connection may call it, because no other connection depends on
// it.
func (e *egress) wait() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.unread >= highWater && !e.closed {
		e.progress.Wait()
	}
}

func (e *egress) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shut()
	e.report()
}

// mute ends writing to a device that has gone. The socket stays open, because what the device sent
// before is still to be read. Called with mu held.
func (e *egress) mute() {
	e.disconnected = true
	e.unread, e.heldBytes = 0, 0
	e.held, e.backlog = nil, nil
	e.progress.Broadcast()
}

// shut closes the socket, which also ends the connection's reader. Called with mu held.
func (e *egress) shut() {
	e.closed = true
	e.unread, e.heldBytes = 0, 0
	e.held, e.backlog, e.unacknowledged = nil, nil, nil
	_ = e.socket.Close()
	e.progress.Broadcast()
}

// report calls note if more or fewer bytes are kept than before. Called with mu held.
func (e *egress) report() {
	if e.unread != e.notedUnread || e.heldBytes != e.notedHeld {
		e.note(e.unread-e.notedUnread, e.heldBytes-e.notedHeld)
		e.notedUnread, e.notedHeld = e.unread, e.heldBytes
	}
}

// publishID returns the packet identifier of an encoded PUBLISH, 0 at QoS 0.
func publishID(packet []byte) uint16 {
	if packet[0]&0x06 == 0 {
		return 0
	}
	i := 1
	for packet[i]&0x80 != 0 {
		i++
	}
	i++ // past the remaining length
	i += 2 + int(binary.BigEndian.Uint16(packet[i:]))
	return binary.BigEndian.Uint16(packet[i:])
}
