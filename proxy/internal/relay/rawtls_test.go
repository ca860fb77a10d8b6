package relay

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Record and message types of TLS 1.3 (RFC 8446 sections 4 and 5.1).
const (
	alertRecord       = 21
	handshakeRecord   = 22
	applicationRecord = 23
	keyUpdateMessage  = 24
)

// rawTLS is a TLS 1.3 peer that makes its records itself, so that it can send what no
// well-behaved peer sends.
type rawTLS struct {
	testing.TB
	net.Conn
	out, in recordKeys
}

// newRawTLS connects to a TLS server or client of ours. The handshake is crypto/tls's;
// the secrets come from its key log.
func newRawTLS(t testing.TB, weAreServer bool) (*rawTLS, *tls.Conn) {
	t.Helper()
	a, b := tcpPair(t)
	var log bytes.Buffer
	client := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, KeyLogWriter: &log}
	// Tickets would come with the server's first keys, before we take over.
	server := &tls.Config{Certificates: []tls.Certificate{certificate()}, SessionTicketsDisabled: true}
	peer, ours := tls.Client(a, client), tls.Server(NewSocket(b), server)
	out, in := "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"
	if !weAreServer {
		peer, ours = tls.Server(a, server), tls.Client(NewSocket(b), client)
		out, in = in, out
	}
	errs := make(chan error, 1)
	go func() { errs <- peer.Handshake() }()
	if err := ours.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	suite := peer.ConnectionState().CipherSuite
	return &rawTLS{
		TB: t, Conn: a,
		out: newRecordKeys(t, suite, secret(t, log.String(), out)),
		in:  newRecordKeys(t, suite, secret(t, log.String(), in)),
	}, ours
}

func secret(t testing.TB, log, label string) []byte {
	for line := range strings.Lines(log) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == label {
			b, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("the key log has no %s", label)
	return nil
}

// recordKeys protect one direction (RFC 8446 sections 5.2 and 7.3).
type recordKeys struct {
	testing.TB
	hash   func() hash.Hash
	keyLen int
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newRecordKeys(t testing.TB, suite uint16, secret []byte) recordKeys {
	k := recordKeys{TB: t, secret: secret}
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256:
		k.hash, k.keyLen = sha256.New, 16
	case tls.TLS_AES_256_GCM_SHA384:
		k.hash, k.keyLen = sha512.New384, 32
	default:
		t.Fatalf("cipher suite %s is not known here", tls.CipherSuiteName(suite))
	}
	k.derive()
	return k
}

func (k *recordKeys) derive() {
	block, err := aes.NewCipher(k.expand("key", k.keyLen))
	if err != nil {
		k.Fatal(err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		k.Fatal(err)
	}
	k.iv, k.seq = k.expand("iv", 12), 0
}

func (k *recordKeys) update() {
	k.secret = k.expand("traffic upd", k.hash().Size())
	k.derive()
}

// expand is HKDF-Expand-Label with an empty context.
func (k *recordKeys) expand(label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 "+label)))
	info = append(append(info, "tls13 "+label...), 0)
	b, err := hkdf.Expand(k.hash, k.secret, string(info), n)
	if err != nil {
		k.Fatal(err)
	}
	return b
}

func (k *recordKeys) nonce() []byte {
	nonce := bytes.Clone(k.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(k.seq >> (56 - 8*i))
	}
	k.seq++
	return nonce
}

// record returns payload as one protected record.
func (c *rawTLS) record(typ byte, payload []byte) []byte {
	header := []byte{applicationRecord, 3, 3}
	header = binary.BigEndian.AppendUint16(header, uint16(len(payload)+1+c.out.aead.Overhead()))
	return c.out.aead.Seal(header, c.out.nonce(), append(bytes.Clone(payload), typ), header)
}

func (c *rawTLS) data(s string) []byte { return c.record(applicationRecord, []byte(s)) }

func (c *rawTLS) closeNotify() []byte { return c.record(alertRecord, []byte{1, 0}) }

// keyUpdate returns the message in records of at most size bytes of payload, after
// which the new keys hold.
func (c *rawTLS) keyUpdate(request bool, size int) (records []byte) {
	message := []byte{keyUpdateMessage, 0, 0, 1, 0}
	if request {
		message[4] = 1
	}
	for len(message) > 0 {
		n := min(size, len(message))
		records = append(records, c.record(handshakeRecord, message[:n])...)
		message = message[n:]
	}
	c.out.update()
	return records
}

func (c *rawTLS) sendRaw(b []byte) {
	c.Helper()
	if _, err := c.Conn.Write(b); err != nil {
		c.Fatal("send:", err)
	}
}

// dribble sends b in pieces of n bytes, each a segment of its own as far as that can
// be had.
func (c *rawTLS) dribble(b []byte, n int) {
	c.Helper()
	for len(b) > 0 {
		m := min(n, len(b))
		c.sendRaw(b[:m])
		b = b[m:]
	}
}

// receive returns the next application data, following the relay's key updates.
func (c *rawTLS) receive() (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		header := make([]byte, 5)
		if _, err := io.ReadFull(c.Conn, header); err != nil {
			return "", err
		}
		body := make([]byte, binary.BigEndian.Uint16(header[3:]))
		if _, err := io.ReadFull(c.Conn, body); err != nil {
			return "", err
		}
		plain, err := c.in.aead.Open(nil, c.in.nonce(), body, header)
		if err != nil {
			return "", fmt.Errorf("record of the relay: %w", err)
		}
		switch typ := plain[len(plain)-1]; typ {
		case applicationRecord:
			return string(plain[:len(plain)-1]), nil
		case handshakeRecord:
			c.in.update()
		default:
			return "", fmt.Errorf("record of type %d: % x", typ, plain[:len(plain)-1])
		}
	}
}
