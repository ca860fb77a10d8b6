package packetstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// patience is how long a client waits for a packet, and maxPacket is the size of the largest.
const (
	patience  = 20 * time.Second
	maxPacket = 5 + 268_435_455 // section 2.1.4
)

// Client is the device's end of a connection.
type Client struct {
	net.Conn
	Level byte // 3, 4 or 5

	t      testing.TB
	lastID uint16
	inbox  []packets.Publish // received while waiting for something else
}

// New returns a client for a connection on which no CONNECT has been sent. The connection is
// closed when the test ends.
func New(t testing.TB, conn net.Conn, level byte) *Client {
	t.Cleanup(func() { conn.Close() })
	return &Client{Conn: conn, Level: level, t: t}
}

// Identity returns a CONNECT with a clean start, a keep alive of a minute, and a token
// as the user name.
func Identity(level byte, clientID, token string) *packets.Connect {
	return &packets.Connect{Level: level, CleanStart: true, KeepAlive: 60, ClientID: clientID, HasUsername: true, Username: token}
}

// Dial connects by TCP. The connection is closed when the test ends.
func Dial(t testing.TB, address string) net.Conn {
	t.Helper()
	return dial(t, &net.Dialer{Timeout: patience}, address)
}

// DialFrom connects from another address of this machine.
func DialFrom(t testing.TB, from, to string) net.Conn {
	t.Helper()
	return dial(t, &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}, to)
}

func dial(t testing.TB, d *net.Dialer, address string) net.Conn {
	t.Helper()
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Connect sends a CONNECT and fails the test unless it is accepted.
func Connect(t testing.TB, conn net.Conn, connect *packets.Connect) *Client {
	t.Helper()
	c, ack := Present(t, conn, connect)
	if ack.Code != packets.Success {
		t.Fatalf("refused with %d, %v", ack.Code, ack.Code)
	}
	return c
}

// Present sends a CONNECT and returns the CONNACK, whatever its code is.
func Present(t testing.TB, conn net.Conn, connect *packets.Connect) (*Client, packets.Connack) {
	t.Helper()
	c, ack, err := Try(conn, connect)
	if err != nil {
		t.Fatal(err)
	}
	c.t = t
	return c, ack
}

// Try is Present for any goroutine. Of the client that it returns, only the methods
// that return an error may be called.
func Try(conn net.Conn, connect *packets.Connect) (*Client, packets.Connack, error) {
	c := &Client{Conn: conn, Level: connect.Level}
	if _, err := conn.Write(connect.Append(nil)); err != nil {
		return c, packets.Connack{}, err
	}
	ack, err := c.ReadConnack()
	return c, ack, err
}

// Exchange sends bytes and returns everything that arrives until the connection ends. The test
// fails if it does not end within the limit.
func Exchange(t testing.TB, conn net.Conn, sent string, limit time.Duration) string {
	t.Helper()
	if _, err := conn.Write([]byte(sent)); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if IsTimeout(err) {
		t.Errorf("still connected after %v", limit)
	}
	return string(answer)
}

// IsTimeout reports whether err means that a deadline has passed.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Send writes bytes unchanged.
func (c *Client) Send(b []byte) {
	c.t.Helper()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
	_ = c.SetWriteDeadline(time.Time{})
}

// ReadPacket returns the next packet.
func (c *Client) ReadPacket() (Packet, error) { return c.read(patience) }

func (c *Client) read(limit time.Duration) (Packet, error) {
	_ = c.SetReadDeadline(time.Now().Add(limit)) // a closed connection fails in the read
	raw, err := packets.ReadPacket(c.Conn, maxPacket)
	_ = c.SetReadDeadline(time.Time{})
	return raw, err
}

// ReadConnack returns the next packet, and an error if it is not a CONNACK.
func (c *Client) ReadConnack() (ack packets.Connack, err error) {
	raw, err := c.ReadPacket()
	if err != nil {
		return ack, fmt.Errorf("no CONNACK: %w", err)
	}
	if err := ack.Parse(raw, c.Level); err != nil {
		return ack, fmt.Errorf("answer to CONNECT: %w", err)
	}
	return ack, nil
}

// ReadType returns the next packet of a type. PUBLISH packets that come before it are
// acknowledged and kept for Next; any other packet is an UnexpectedError.
func (c *Client) ReadType(want packets.Type) (Packet, error) {
	for {
		p, err := c.ReadPacket()
		switch {
		case err != nil:
			return nil, err
		case p.Type() == want:
			return p, nil
		case p.Type() != packets.PUBLISH:
			return nil, &UnexpectedError{p}
		}
		if err := c.receive(p); err != nil {
			return nil, err
		}
	}
}

// Expect returns the next packet, and fails the test if it has another type.
func (c *Client) Expect(want packets.Type) Packet {
	c.t.Helper()
	p, err := c.ReadPacket()
	if err != nil {
		c.t.Fatalf("waiting for %v: %v", want, err)
	}
	if p.Type() != want {
		c.t.Fatalf("%v, want %v", &UnexpectedError{p}, want)
	}
	return p
}

// ExpectAck expects a PUBACK, PUBREC, PUBREL or PUBCOMP with that packet identifier
// and code.
func (c *Client) ExpectAck(want packets.Type, id uint16, code packets.ReasonCode) {
	c.t.Helper()
	p := c.Expect(want)
	var ack packets.Ack
	if err := ack.Parse(p, c.Level); err != nil || ack.PacketID != id || ack.Code != code {
		c.t.Fatalf("%v of packet %d with code %#x, %v; want packet %d, code %#x", want, ack.PacketID, ack.Code, err, id, code)
	}
}

// ExpectEnd reads until the connection ends, and fails the test unless it receives exactly
// these bytes before.
func (c *Client) ExpectEnd(before ...byte) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c)
	if IsTimeout(err) || !bytes.Equal(got, before) {
		c.t.Errorf("got %d bytes (% x), error %v; want % x and the end", len(got), got[:min(20, len(got))], err, before)
	}
}

// AwaitEnd reads until the connection ends, closes it, and returns the reason code of the
// DISCONNECT that came last, or 0 if there was none.
func (c *Client) AwaitEnd(limit time.Duration) (code packets.ReasonCode, err error) {
	defer c.Close()
	for until := time.Now().Add(limit); ; {
		p, err := c.read(time.Until(until))
		switch {
		case IsTimeout(err):
			return code, fmt.Errorf("still connected after %v", limit)
		case err != nil:
			return code, nil
		case p.Type() == packets.DISCONNECT:
			var d packets.Disconnect
			if err := d.Parse(p, c.Level); err != nil {
				return 0, err
			}
			code = d.Code
		}
	}
}

// Ping returns when the other side has read everything that was sent before.
func (c *Client) Ping() {
	c.t.Helper()
	c.Send([]byte{0xC0, 0})
	c.Expect(packets.PINGRESP)
}

// Disconnect ends the session normally and returns when the other side has closed the
// connection.
func (c *Client) Disconnect() {
	c.t.Helper()
	c.Send((&packets.Disconnect{}).Append(nil, c.Level))
	if _, err := c.AwaitEnd(patience); err != nil {
		c.t.Fatalf("after DISCONNECT: %v", err)
	}
}
