package relay

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
)

// rawTLS12 is a TLS 1.2 peer that makes the records it sends itself: crypto/tls sends
// no empty ones. It receives as usual.
type rawTLS12 struct {
	*tls.Conn
	wire net.Conn
	aead cipher.AEAD
	salt []byte
	seq  uint64
}

// recordedConn keeps a copy of all bytes that are read and written.
type recordedConn struct {
	net.Conn
	in, out bytes.Buffer
}

func (c *recordedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Write(b[:n])
	return n, err
}

func (c *recordedConn) Write(b []byte) (int, error) {
	c.out.Write(b)
	return c.Conn.Write(b)
}

// newRawTLS12 connects to a TLS server or client of ours.
func newRawTLS12(t testing.TB, weAreServer bool) (*rawTLS12, *tls.Conn) {
	t.Helper()
	a, b := tcpPair(t)
	recorded := &recordedConn{Conn: a}
	var log bytes.Buffer
	client := &tls.Config{
		InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, KeyLogWriter: &log,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
	server := &tls.Config{Certificates: []tls.Certificate{certificate()}, SessionTicketsDisabled: true}
	peer, ours := tls.Client(recorded, client), tls.Server(NewSocket(b), server)
	hello := &recorded.in
	if !weAreServer {
		peer, ours = tls.Server(recorded, server), tls.Client(NewSocket(b), client)
		hello = &recorded.out
	}
	errs := make(chan error, 1)
	go func() { errs <- peer.Handshake() }()
	if err := ours.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	var clientRandom, master []byte
	if _, err := fmt.Sscanf(log.String(), "CLIENT_RANDOM %x %x", &clientRandom, &master); err != nil {
		t.Fatal(err)
	}
	// Behind the headers of record and message and the version.
	serverRandom := hello.Bytes()[5+4+2:][:32]
	const keyLen, saltLen = 16, 4
	block := expandKeys(master, append(bytes.Clone(serverRandom), clientRandom...), 2*keyLen+2*saltLen)
	key, salt := block[:keyLen], block[2*keyLen:][:saltLen]
	if !weAreServer {
		key, salt = block[keyLen:2*keyLen], block[2*keyLen+saltLen:]
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(c)
	if err != nil {
		t.Fatal(err)
	}
	return &rawTLS12{Conn: peer, wire: a, aead: aead, salt: salt, seq: 1}, ours // Finished was 0
}

// expandKeys is the PRF for a key block (RFC 5246 sections 5 and 6.3).
func expandKeys(master, seed []byte, n int) (block []byte) {
	sum := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, master)
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	seed = append([]byte("key expansion"), seed...)
	for a := sum(seed); len(block) < n; a = sum(a) {
		block = append(block, sum(a, seed)...)
	}
	return block[:n]
}

// data returns application data as one record (RFC 5288 section 3).
func (c *rawTLS12) data(s string) []byte {
	number := binary.BigEndian.AppendUint64(nil, c.seq)
	c.seq++
	extra := append(bytes.Clone(number), applicationRecord, 3, 3)
	extra = binary.BigEndian.AppendUint16(extra, uint16(len(s)))
	record := []byte{applicationRecord, 3, 3}
	record = binary.BigEndian.AppendUint16(record, uint16(len(number)+len(s)+c.aead.Overhead()))
	record = append(record, number...)
	return c.aead.Seal(record, append(bytes.Clone(c.salt), number...), []byte(s), extra)
}

// eachRaw12 runs f with every pump and each side of a pair that makes its own records.
func eachRaw12(t *testing.T, f func(t *testing.T, r *rig, side Side, raw *rawTLS12, far net.Conn)) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, side := range []Side{Client, Upstream} {
			t.Run(side.String(), func(t *testing.T) {
				r := &rig{TB: t, pump: patient(newPump())}
				raw, ours := newRawTLS12(t, side == Client)
				far := r.connect(side, ours)
				f(t, r.start(), side, raw, far)
			})
		}
	})
}

func TestEmptyRecordsOfTLS12(t *testing.T) {
	eachRaw12(t, func(t *testing.T, r *rig, _ Side, raw *rawTLS12, far net.Conn) {
		for i := range 20 {
			text := fmt.Sprint("there ", i)
			var records []byte
			if i%2 == 0 { // behind something that is passed on, or alone
				records = raw.data(text)
			}
			for range 10 {
				records = append(records, raw.data("")...)
			}
			records = append(append(records, raw.data(text)...), raw.data("")...)
			if i%2 == 0 {
				text += text
			}
			r.send(raw.wire, records[:i])
			r.send(raw.wire, records[i:])
			r.expect(far, text)
			r.send(far, []byte("back"))
			r.expect(raw, "back")
		}
		if up, down := r.session.Bytes(); up == 0 || down == 0 {
			t.Errorf("%d bytes up and %d down", up, down)
		}
	})
}

func TestEmptyRecordFloodOfTLS12EndsPair(t *testing.T) {
	eachRaw12(t, func(t *testing.T, r *rig, side Side, raw *rawTLS12, far net.Conn) {
		flood := raw.data("before")
		for range 40 {
			flood = append(flood, raw.data("")...)
		}
		r.send(raw.wire, flood)
		r.expectEnd(far, "before")
		far.Close()
		if got := r.end(); got.By != side || got.Err == nil || got.from(side) != int64(len("before")) {
			t.Errorf("result %+v, want a fault", got)
		}
	})
}
