package relay

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"time"
)

// lendable returns where TLS connections keep their input, or nil if buffers cannot be lent. The
// first call tries it on a test connection.
var lendable = sync.OnceValue(func() *tlsOffsets {
	o, ok := findTLSInput()
	if !ok || tryLending(o) != nil {
		return nil
	}
	return &o
})

// LendsTLSBuffers reports whether TLS connections use a buffer only while they read. If a
// release of Go has changed crypto/tls too much for that, each connection keeps the buffer
// of its largest record, up to 17 KiB, and everything else works as before.
func LendsTLSBuffers() bool { return lendable() != nil }

var errLending = errors.New("TLS connection does not work with a lent buffer")

// tryLending reads a full record and a small one, which arrive together, from a lent buffer.
// Then it overwrites the buffer and reads another record in the ordinary way.
func tryLending(o tlsOffsets) error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_ = a.SetDeadline(time.Now().Add(5 * time.Second))
	_ = b.SetDeadline(time.Now().Add(5 * time.Second))
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	first, second := bytes.Repeat([]byte("1"), 16<<10), []byte("2")
	sealed := &sealing{Conn: a}
	sent := make(chan error, 1)
	go func() { sent <- sendSealed(sealed, first, second) }()
	server := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true})
	if err := server.Handshake(); err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}

	_ = b.SetReadDeadline(longAgo) // so that everything is read from the lent buffer
	in, lent := o.of(server), make([]byte, lendBuffer)
	in.lend(lent)
	in.received(lent, copy(lent[in.raw.Len():], sealed.b))
	got := make([]byte, len(first)+len(second))
	for n := 0; n < len(got); {
		if !in.ready() {
			return errLending
		}
		m, err := server.Read(got[n:])
		if err != nil {
			return err
		}
		n += m
	}
	if !bytes.Equal(got, append(first, second...)) || in.ready() || in.raw.Len() > 0 {
		return errLending
	}
	in.takeBack()
	clear(lent)
	_ = b.SetReadDeadline(time.Now().Add(5 * time.Second))
	go func() { _, err := sealed.last.Write(second); sent <- err }()
	if _, err := io.ReadFull(server, got[:len(second)]); err != nil {
		return err
	}
	return <-sent
}

// sendSealed does the handshake over c and writes the messages, which c keeps as records.
func sendSealed(c *sealing, messages ...[]byte) error {
	c.last = tls.Client(c, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}) //nolint:gosec // the peer is tryLending
	if err := c.last.Handshake(); err != nil {
		return err
	}
	c.keep = true
	defer func() { c.keep = false }()
	for _, m := range messages {
		if _, err := c.last.Write(m); err != nil {
			return err
		}
	}
	return nil
}

// sealing sends what is written, or keeps it in b if keep is set.
type sealing struct {
	net.Conn
	last *tls.Conn
	keep bool
	b    []byte
}

func (c *sealing) Write(b []byte) (int, error) {
	if !c.keep {
		return c.Conn.Write(b)
	}
	c.b = append(c.b, b...)
	return len(b), nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
