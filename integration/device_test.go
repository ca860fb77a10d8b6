//go:build integration

package integration

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// device is a client that shows every packet: what brokers' own clients hide, or
// never do, is done with it.
type device struct {
	conn   net.Conn
	level  byte
	lastID uint16
	inbox  []packets.Publish // came while something else was waited for
}

// identity is how a device presents itself: with a clean session and a token.
func identity(level byte, clientID, token string) *packets.Connect {
	return &packets.Connect{Level: level, CleanStart: true, KeepAlive: 60, ClientID: clientID, HasUsername: true, Username: token}
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// dialTLS connects to the listener for TLS as a device does that was given the
// proxy's CA certificate.
func (p *proxy) dialTLS(t testing.TB) net.Conn {
	t.Helper()
	return tls.Client(dial(t, p.tls), p.trust(t))
}

// trust is the TLS config of such a device.
func (p *proxy) trust(t testing.TB) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(p.authority())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", p.authority())
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// present sends a CONNECT and returns the answer.
func present(t testing.TB, conn net.Conn, c *packets.Connect) (*device, packets.Connack) {
	t.Helper()
	d, ack, err := try(conn, c)
	if err != nil {
		t.Fatal(err)
	}
	return d, ack
}

// try sends a CONNECT and returns the answer. It may run on any goroutine.
func try(conn net.Conn, c *packets.Connect) (*device, packets.Connack, error) {
	d := &device{conn: conn, level: c.Level}
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

// connect presents a device that must be let in.
func connect(t testing.TB, conn net.Conn, c *packets.Connect) *device {
	t.Helper()
	d, ack := present(t, conn, c)
	if ack.Code != packets.Success {
		t.Fatalf("refused with %d, %v", ack.Code, ack.Code)
	}
	return d
}

// exchange sends bytes and returns all that comes back until the connection ends,
// which it must within the limit.
func exchange(t testing.TB, conn net.Conn, sent string, limit time.Duration) string {
	t.Helper()
	if _, err := conn.Write([]byte(sent)); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if isTimeout(err) {
		t.Errorf("still connected after %v", limit)
	}
	return string(answer)
}

// read returns the next packet.
func (d *device) read(limit time.Duration) ([]byte, error) {
	if err := d.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	return packets.ReadPacket(d.conn, 4<<20)
}

func (d *device) nextID() uint16 {
	d.lastID++
	if d.lastID == 0 {
		d.lastID = 1
	}
	return d.lastID
}

// unexpectedError is a packet that came instead of what was waited for.
type unexpectedError struct{ raw []byte }

func (e *unexpectedError) Error() string {
	return fmt.Sprintf("got %v (% x)", packets.Type(e.raw[0]>>4), e.raw[:min(8, len(e.raw))])
}

// readType returns the next packet of a type. Messages that come before it are
// kept for next.
func (d *device) readType(wanted packets.Type) ([]byte, error) {
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
			return nil, &unexpectedError{raw}
		}
	}
}

// receive keeps a message and acknowledges it.
func (d *device) receive(raw []byte) error {
	var p packets.Publish
	if _, err := p.Parse(raw, d.level); err != nil {
		return err
	}
	d.inbox = append(d.inbox, p)
	if p.QoS == 0 {
		return nil
	}
	ack := packets.Ack{Type: packets.PUBACK, PacketID: p.PacketID}
	_, err := d.conn.Write(ack.Append(nil, d.level))
	return err
}

// next returns the next message.
func (d *device) next(limit time.Duration) (packets.Publish, error) {
	for len(d.inbox) == 0 {
		raw, err := d.read(limit)
		if err != nil {
			return packets.Publish{}, err
		}
		if packets.Type(raw[0]>>4) != packets.PUBLISH {
			return packets.Publish{}, &unexpectedError{raw}
		}
		if err := d.receive(raw); err != nil {
			return packets.Publish{}, err
		}
	}
	p := d.inbox[0]
	d.inbox = d.inbox[1:]
	return p, nil
}

// subscribe returns when the subscription stands.
func (d *device) subscribe(t testing.TB, filter string, qos byte) {
	t.Helper()
	s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: d.nextID()}
	s.Add(filter, qos)
	if _, err := d.conn.Write(s.Append(nil, d.level)); err != nil {
		t.Fatal(err)
	}
	raw, err := d.readType(packets.SUBACK)
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	var ack packets.Suback
	if err := ack.Parse(raw, d.level); err != nil || len(ack.Codes) != 1 || ack.Codes[0] >= 0x80 {
		t.Fatalf("subscribe: %v, %v", ack.Codes, err)
	}
}

// burst publishes payloads at QoS 1, all before the first acknowledgement is
// read, and calls acked with each that was acknowledged.
func (d *device) burst(topic string, payloads [][]byte, acked func(payload []byte)) error {
	var b bytes.Buffer
	waiting := make(map[uint16][]byte, len(payloads))
	for _, payload := range payloads {
		p := packets.Publish{QoS: 1, Topic: []byte(topic), PacketID: d.nextID(), Payload: payload}
		b.Write(p.Append(nil, d.level))
		waiting[p.PacketID] = payload
	}
	if _, err := d.conn.Write(b.Bytes()); err != nil {
		return err
	}
	for len(waiting) > 0 {
		raw, err := d.readType(packets.PUBACK)
		if err != nil {
			return err
		}
		var ack packets.Ack
		if err := ack.Parse(raw, d.level); err != nil {
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

// publish sends one message at QoS 1 and waits for the acknowledgement.
func (d *device) publish(topic, payload string) error {
	return d.burst(topic, [][]byte{[]byte(payload)}, func([]byte) {})
}

// leave ends the session in order and returns when the other side has closed.
func (d *device) leave(t testing.TB) {
	t.Helper()
	if _, err := d.conn.Write((&packets.Disconnect{}).Append(nil, d.level)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := d.read(patience); isTimeout(err) {
			t.Fatalf("still connected %v after its DISCONNECT", patience)
		} else if err != nil {
			d.conn.Close()
			return
		}
	}
}

// farewell reads until the connection ends, closes it, and returns the reason code
// of the DISCONNECT that came before, 0 if none did.
func (d *device) farewell(limit time.Duration) (packets.ReasonCode, error) {
	defer d.conn.Close()
	until := time.Now().Add(limit)
	var code packets.ReasonCode
	for {
		raw, err := d.read(time.Until(until))
		if err != nil {
			if isTimeout(err) {
				return code, fmt.Errorf("still connected after %v", limit)
			}
			return code, nil
		}
		if packets.Type(raw[0]>>4) == packets.DISCONNECT {
			var bye packets.Disconnect
			if err := bye.Parse(raw, d.level); err != nil {
				return 0, err
			}
			code = bye.Code
		}
	}
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}
