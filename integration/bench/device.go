//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// message returns a PUBLISH at QoS 0 with a payload of so many bytes.
func message(topic string, size int) []byte { return publish(topic, bytes.Repeat([]byte{'x'}, size)) }

func publish(topic string, payload []byte) []byte {
	p := packets.Publish{Topic: []byte(topic), Payload: payload}
	return p.Append(nil, 4)
}

// device is a client that is connected.
type device struct {
	net.Conn
	wire *wire
}

// wire is the connection below TLS. While hold is set it keeps what is written, so that many
// records are sent with one write.
type wire struct {
	net.Conn
	holds bool
	held  []byte
}

func (w *wire) Write(b []byte) (int, error) {
	if w.holds {
		w.held = append(w.held, b...)
		return len(b), nil
	}
	return w.Conn.Write(b)
}

// release writes everything that was kept.
func (w *wire) release() error {
	_, err := w.Conn.Write(w.held)
	w.holds, w.held = false, w.held[:0]
	return err
}

// dial connects a device, with TLS if config is not nil, and sends its CONNECT.
func dial(address string, config *tls.Config, number int) (*device, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	d := &device{wire: &wire{Conn: conn}}
	d.Conn = d.wire
	if config != nil {
		d.Conn = tls.Client(d.wire, config)
	}
	if err := d.present(number); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect device %d: %w", number, err)
	}
	return d, nil
}

func (d *device) present(number int) error {
	if err := d.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	c := packets.Connect{Level: 4, CleanStart: true, KeepAlive: 600, ClientID: fmt.Sprintf("device-%d", number), HasUsername: true, Username: tokenOf(number)}
	if err := d.expect(c.Append(nil), 0x20, 2, 0, 0); err != nil {
		return err
	}
	if secure, ok := d.Conn.(*tls.Conn); ok {
		// Another version or cipher suite would have a different cost.
		if s := secure.ConnectionState(); s.Version != tls.VersionTLS13 || s.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
			return fmt.Errorf("speaks %s, %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
		}
	}
	return d.SetDeadline(time.Time{})
}

// expect writes, if there is something to write, and reads an answer.
func (d *device) expect(sent []byte, answer ...byte) error {
	if len(sent) > 0 {
		if _, err := d.Write(sent); err != nil {
			return err
		}
	}
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(d, got); err != nil {
		return err
	}
	if !bytes.Equal(got, answer) {
		return fmt.Errorf("answered with % x, want % x", got, answer)
	}
	return nil
}

// ping waits until everything that was sent before has arrived.
func (d *device) ping() error { return d.expect([]byte{0xC0, 0}, 0xD0, 0) }

// echo sends a message and reads one of the same size.
func (d *device) echo(m []byte, buffer []byte) error {
	if _, err := d.Write(m); err != nil {
		return err
	}
	return d.drain(len(m), buffer)
}

// drain reads so many bytes.
func (d *device) drain(n int, buffer []byte) error {
	for n > 0 {
		got, err := d.Read(buffer[:min(n, len(buffer))])
		if err != nil {
			return err
		}
		n -= got
	}
	return nil
}

// leave ends the session with a DISCONNECT.
func (d *device) leave() error {
	if _, err := d.Write([]byte{0xE0, 0}); err != nil {
		return err
	}
	if err := d.Close(); err != nil && !strings.Contains(err.Error(), "reset by peer") {
		return err
	}
	return nil
}

// each calls f for the numbers from 0 up to n, so many at a time.
func each(n, atOnce int, f func(i int) error) error {
	var next atomic.Int64
	failed := make([]error, min(n, atOnce))
	var workers sync.WaitGroup
	for w := range failed {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed[w] == nil; i = int(next.Add(1)) - 1 {
				failed[w] = f(i)
			}
		})
	}
	workers.Wait()
	return errors.Join(failed...)
}
