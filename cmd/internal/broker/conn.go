package broker

import (
	"errors"
	"net"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Reason codes of DISCONNECT for errors that only Read detects.
var (
	keepAliveTimeout = [...]byte{0xE0, 0x01, 0x8D}
	quotaExceeded    = [...]byte{0xE0, 0x01, 0x97}
)

// errNoMemory ends a connection that begins a packet for which there is no memory.
var errNoMemory = errors.New("the memory of the device, or of all devices, is used up")

// conn is the broker's end of one connection, as mochi needs it. It knows the device.
type conn struct {
	net.Conn // the socket; writes go through out
	broker   *Broker
	device   string
	limits   Limits
	gateway  *gateway // nil for a device that is none
	reader   bool
	away     int64 // when a session that was brought back lost its connection, seconds since 1970
	out      *egress
	refills  atomic.Int32                // how often it was asked for messages since the last began to move, see refill
	client   atomic.Pointer[mqtt.Client] // set when CONNECT was accepted
	will     *will                       // guarded by Broker.wills
	// takenOver is set when another connection takes the session over.
	takenOver atomic.Bool

	// The following fields belong to the goroutine that serves the connection.

	input
	bridge     bool                   // CONNECT had the bridge bit
	subscribed []packets.Subscription // whose retained messages follow the SUBACK
	mqtt5      bool
	authMethod bool // CONNECT asks for enhanced authentication
	emptyWill  bool // the Will has no payload, which mochi does not accept
	inSessions bool // has locked Broker.sessions
	unstored   bool // nothing more is accepted from the device
	last       byte // the last byte received
	in         ingress
	receiving  int  // bytes charged for the packet that is being received
	overfull   bool // there was no room for that packet

	backlog       bool // there may be messages for it in the file alone
	holdsSessions bool // has locked Broker.sessions for reading
}

func newConn(b *Broker, socket net.Conn, device Device) (*conn, error) {
	out, err := newEgress(socket, b.options.WriteTimeout)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: socket, broker: b, device: device.Name, limits: device.Limits, reader: device.Reader, out: out}
	if device.Gateway {
		c.gateway = &gateway{}
	}
	c.in.large = c.noteLarge
	out.spawn = b.work.Go
	out.drop = c.dropped
	out.note = func(unread, copies int) { b.ledger.note(c.device, unread, copies) }
	out.full = func() bool { return !b.ledger.room(c.device) }
	return c, nil
}

// noteLarge charges the device for a packet that is being received, 0 if it has been.
func (c *conn) noteLarge(bytes int) {
	c.broker.ledger.note(c.device, bytes-c.receiving, 0)
	c.receiving = bytes
	c.overfull = bytes > 0 && !c.broker.ledger.room(c.device)
}

// Write writes one packet. mochi joins packets only if it uses its own queue of messages, which it
// never does here.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.out.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close discards data that the device has not read.
func (c *conn) Close() error {
	if c.out != nil { // not of a session that was brought back
		c.out.close()
	}
	return nil
}

// RemoteAddr returns what mochi logs as the client's address.
func (c *conn) RemoteAddr() net.Addr { return deviceAddr(c.device) }

type deviceAddr string

func (deviceAddr) Network() string  { return "bundled" }
func (a deviceAddr) String() string { return string(a) }

// dropped counts a message that will not reach the device, and removes it from the session's
// queue if it is there.
func (c *conn) dropped(id uint16, cause dropCause) {
	c.broker.counts.dropped.count(cause)
	if cl := c.client.Load(); cl != nil && id != 0 {
		cl.State.Inflight.Delete(id)
		c.broker.ledger.dequeue(cl.ID, id)
		if cause == dropTooLarge && c.broker.ledger.hasBacklog(cl.ID) { // no acknowledgement asks for more
			c.out.spawn(func() { c.broker.refillSafely(c, cl) })
		}
	}
}

// enterSessions and leaveSessions lock and unlock Broker.sessions for this connection.
func (c *conn) enterSessions() {
	if !c.inSessions {
		c.broker.sessions.Lock()
		c.inSessions = true
	}
}

func (c *conn) leaveSessions() {
	if c.inSessions {
		c.inSessions = false
		c.broker.sessions.Unlock()
	}
}

// holdSessions and releaseSessions lock and unlock Broker.sessions for reading.
func (c *conn) holdSessions() {
	if !c.holdsSessions {
		c.broker.sessions.RLock()
		c.holdsSessions = true
	}
}

func (c *conn) releaseSessions() {
	if c.holdsSessions {
		c.holdsSessions = false
		c.broker.sessions.RUnlock()
	}
}
