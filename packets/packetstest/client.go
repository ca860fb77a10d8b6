package packetstest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// patience is how long a test waits for something that ought to come at once.
const patience = 20 * time.Second

// Client is a client that shows every packet: what brokers' own clients hide, or
// never do, is done with it.
type Client struct {
	Conn   net.Conn
	Level  byte
	lastID uint16
	inbox  []packets.Publish // came while something else was waited for
}

// Identity is how a device presents itself: with a clean session and a token.
func Identity(level byte, clientID, token string) *packets.Connect {
	return &packets.Connect{Level: level, CleanStart: true, KeepAlive: 60, ClientID: clientID, HasUsername: true, Username: token}
}

func Dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Present sends a CONNECT and returns the answer.
func Present(t testing.TB, conn net.Conn, c *packets.Connect) (*Client, packets.Connack) {
	t.Helper()
	d, ack, err := Try(conn, c)
	if err != nil {
		t.Fatal(err)
	}
	return d, ack
}

// Try sends a CONNECT and returns the answer. It may run on any goroutine.
func Try(conn net.Conn, c *packets.Connect) (*Client, packets.Connack, error) {
	d := &Client{Conn: conn, Level: c.Level}
	var ack packets.Connack
	if _, err := conn.Write(c.Append(nil)); err != nil {
		return d, ack, err
	}
	raw, err := d.read(patience)
	if err != nil {
		return d, ack, fmt.Errorf("no CONNACK: %w", err)
	}
	if err := ack.Parse(raw, c.Level); err != nil {
		return d, ack, fmt.Errorf("answer to CONNECT: %w", err)
	}
	return d, ack, nil
}

// Connect presents a device that must be let in.
func Connect(t testing.TB, conn net.Conn, c *packets.Connect) *Client {
	t.Helper()
	d, ack := Present(t, conn, c)
	if ack.Code != packets.Success {
		t.Fatalf("refused with %d, %v", ack.Code, ack.Code)
	}
	return d
}

// Exchange sends bytes and returns all that comes back until the connection ends,
// which it must within the limit.
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

// read returns the next packet.
func (d *Client) read(limit time.Duration) ([]byte, error) {
	if err := d.Conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	return packets.ReadPacket(d.Conn, 4<<20)
}

func (d *Client) NextID() uint16 {
	d.lastID++
	if d.lastID == 0 {
		d.lastID = 1
	}
	return d.lastID
}

// UnexpectedError is a packet that came instead of what was waited for.
type UnexpectedError struct{ Raw []byte }

func (e *UnexpectedError) Error() string {
	return fmt.Sprintf("got %v (% x)", packets.Type(e.Raw[0]>>4), e.Raw[:min(8, len(e.Raw))])
}

// ReadType returns the next packet of a type. Messages that come before it are
// kept for next.
func (d *Client) ReadType(wanted packets.Type) ([]byte, error) {
	for {
		raw, err := d.read(patience)
		if err != nil {
			return nil, err
		}
		switch got := packets.Type(raw[0] >> 4); {
		case got == wanted:
			return raw, nil
		case got == packets.PUBLISH:
			if err := d.receive(raw); err != nil {
				return nil, err
			}
		default:
			return nil, &UnexpectedError{raw}
		}
	}
}

// receive keeps a message and acknowledges it.
func (d *Client) receive(raw []byte) error {
	var p packets.Publish
	if _, err := p.Parse(raw, d.Level); err != nil {
		return err
	}
	d.inbox = append(d.inbox, p)
	if p.QoS == 0 {
		return nil
	}
	ack := packets.Ack{Type: packets.PUBACK, PacketID: p.PacketID}
	_, err := d.Conn.Write(ack.Append(nil, d.Level))
	return err
}

// Next returns the next message.
func (d *Client) Next(limit time.Duration) (packets.Publish, error) {
	for len(d.inbox) == 0 {
		raw, err := d.read(limit)
		if err != nil {
			return packets.Publish{}, err
		}
		if packets.Type(raw[0]>>4) != packets.PUBLISH {
			return packets.Publish{}, &UnexpectedError{raw}
		}
		if err := d.receive(raw); err != nil {
			return packets.Publish{}, err
		}
	}
	p := d.inbox[0]
	d.inbox = d.inbox[1:]
	return p, nil
}

// Subscribe returns when the subscription stands.
func (d *Client) Subscribe(t testing.TB, filter string, qos byte) {
	t.Helper()
	s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: d.NextID()}
	s.Add(filter, qos)
	if _, err := d.Conn.Write(s.Append(nil, d.Level)); err != nil {
		t.Fatal(err)
	}
	raw, err := d.ReadType(packets.SUBACK)
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	var ack packets.Suback
	if err := ack.Parse(raw, d.Level); err != nil || len(ack.Codes) != 1 || ack.Codes[0] >= 0x80 {
		t.Fatalf("subscribe: %v, %v", ack.Codes, err)
	}
}

// PublishAll publishes payloads at QoS 1, all before the first acknowledgement is
// read, and calls acked with each that was acknowledged.
func (d *Client) PublishAll(topic string, payloads [][]byte, acked func(payload []byte)) error {
	var b bytes.Buffer
	waiting := make(map[uint16][]byte, len(payloads))
	for _, payload := range payloads {
		p := packets.Publish{QoS: 1, Topic: []byte(topic), PacketID: d.NextID(), Payload: payload}
		b.Write(p.Append(nil, d.Level))
		waiting[p.PacketID] = payload
	}
	if _, err := d.Conn.Write(b.Bytes()); err != nil {
		return err
	}
	for len(waiting) > 0 {
		raw, err := d.ReadType(packets.PUBACK)
		if err != nil {
			return err
		}
		var ack packets.Ack
		if err := ack.Parse(raw, d.Level); err != nil {
			return err
		}
		payload, ok := waiting[ack.PacketID]
		switch {
		case !ok:
			return fmt.Errorf("PUBACK for packet %d, which is not waiting for one", ack.PacketID)
		case ack.Code >= 0x80:
			return fmt.Errorf("PUBACK with %v", ack.Code)
		}
		delete(waiting, ack.PacketID)
		acked(payload)
	}
	return nil
}

// Publish sends one message at QoS 1 and waits for the acknowledgement.
func (d *Client) Publish(topic, payload string) error {
	return d.PublishAll(topic, [][]byte{[]byte(payload)}, func([]byte) {})
}

// Disconnect ends the session in order and returns when the other side has closed.
func (d *Client) Disconnect(t testing.TB) {
	t.Helper()
	if _, err := d.Conn.Write((&packets.Disconnect{}).Append(nil, d.Level)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := d.read(patience); IsTimeout(err) {
			t.Fatalf("still connected %v after its DISCONNECT", patience)
		} else if err != nil {
			d.Conn.Close()
			return
		}
	}
}

// AwaitEnd reads until the connection ends, closes it, and returns the reason code
// of the DISCONNECT that came before, 0 if none did.
func (d *Client) AwaitEnd(limit time.Duration) (packets.ReasonCode, error) {
	defer d.Conn.Close()
	until := time.Now().Add(limit)
	var code packets.ReasonCode
	for {
		raw, err := d.read(time.Until(until))
		if err != nil {
			if IsTimeout(err) {
				return code, fmt.Errorf("still connected after %v", limit)
			}
			return code, nil
		}
		if packets.Type(raw[0]>>4) == packets.DISCONNECT {
			var bye packets.Disconnect
			if err := bye.Parse(raw, d.Level); err != nil {
				return 0, err
			}
			code = bye.Code
		}
	}
}

func IsTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// DialFrom connects from an address of this machine.
func DialFrom(t testing.TB, from, to string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
