package relay

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// splitConn is the connection under a TLS peer that splits or keeps its records, as the test
// decides.
type splitConn struct {
	net.Conn
	piece int  // writes no more than so many bytes at once, if set
	hold  bool // keeps everything instead
	held  []byte
}

func (c *splitConn) Write(b []byte) (int, error) {
	if c.hold {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	size := len(b)
	if c.piece > 0 {
		size = c.piece
	}
	for n := 0; n < len(b); n += size {
		if _, err := c.Conn.Write(b[n:min(n+size, len(b))]); err != nil {
			return n, err
		}
		runtime.Gosched() // a wake-up of its own, mostly
	}
	return len(b), nil
}

// SetWriteDeadline does nothing: crypto/tls would end all writing with its alert.
func (c *splitConn) SetWriteDeadline(time.Time) error { return nil }

// take returns the bytes that were kept.
func (c *splitConn) take() []byte {
	b := c.held
	c.held = nil
	return b
}

// splitRig is a rig one end of which, on that side, speaks TLS through wire. The far
// one is plain.
type splitRig struct {
	*rig
	side Side
	wire *splitConn
	peer *tls.Conn
	far  net.Conn
}

// eachSplit runs f with every pump, version of TLS, and side.
func eachSplit(t *testing.T, f func(t *testing.T, r *splitRig)) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, side := range []Side{Client, Upstream} {
				t.Run(fmt.Sprintf("%s %v", tls.VersionName(version), side), func(t *testing.T) {
					r := &splitRig{rig: &rig{TB: t, pump: patient(newPump())}, side: side}
					a, b := tcpPair(t)
					r.wire = &splitConn{Conn: a}
					var ours *tls.Conn
					r.peer, ours = secure(t, r.wire, b, side == Client, version)
					r.far = r.connect(side, ours)
					r.start()
					f(t, r)
				})
			}
		}
	})
}

// release sends b unchanged.
func (r *splitRig) release(b []byte) {
	r.Helper()
	r.send(r.wire.Conn, b)
}

func TestBytesOneByOne(t *testing.T) {
	eachSplit(t, func(t *testing.T, r *splitRig) {
		r.wire.piece = 1
		for i := range 5 {
			text := strings.Repeat(fmt.Sprint(i), 100)
			r.send(r.peer, []byte(text))
			r.expect(r.far, text)
			r.send(r.far, []byte(text))
			r.expect(r.peer, text)
		}
	})
}

func TestRecordsCutAnywhere(t *testing.T) {
	eachSplit(t, func(t *testing.T, r *splitRig) {
		dice := rand.New(rand.NewPCG(1, uint64(r.side)))
		r.wire.hold = true
		for range 100 {
			text := bytes.Repeat([]byte{byte('a' + dice.IntN(26))}, 1<<dice.IntN(15))
			want := ""
			for range 1 + dice.IntN(3) { // several records
				r.send(r.peer, text)
				want += string(text)
			}
			for sent := r.wire.take(); len(sent) > 0; {
				n := 1 + dice.IntN(len(sent))
				r.release(sent[:n])
				sent = sent[n:]
				runtime.Gosched()
			}
			r.expect(r.far, want)
		}
	})
}

// An alert behind data, cut anywhere: crypto/tls looks for it when it has returned the
// last of the data, and then has bytes and "not now" to say at once. In TLS 1.2 an
// alert can be distinguished from data by its header, so it is there that this happens.
func TestCloseNotifyCutAnywhere(t *testing.T) {
	eachSplit(t, func(t *testing.T, r *splitRig) {
		r.wire.hold = true
		r.send(r.peer, []byte("bye"))
		data := r.wire.take()
		closeWrite(t, r.peer)
		alert := r.wire.take()
		cut := rand.IntN(len(alert))
		r.release(append(data, alert[:cut]...))
		r.expect(r.far, "bye")
		r.release(alert[cut:])
		r.expectEnd(r.far, "")
		// The other way still works.
		r.send(r.far, []byte("answer"))
		r.far.Close()
		r.expectEnd(r.peer, "answer")
		if got := r.end(); got.By != r.side || got.Err != nil || got.from(r.side) != 3 {
			t.Errorf("result %+v, want an orderly end by the %v, cut at %d", got, r.side, cut)
		}
	})
}

// Data, the alert and the FIN come at once.
func TestDataAndEndAtOnce(t *testing.T) {
	eachSplit(t, func(t *testing.T, r *splitRig) {
		r.wire.hold = true
		r.send(r.peer, []byte("DISCONNECT"))
		closeWrite(t, r.peer)
		r.release(r.wire.take())
		closeWrite(t, r.wire.Conn)
		r.expectEnd(r.far, "DISCONNECT")
		r.far.Close()
		if got := r.end(); got.By != r.side || got.Err != nil {
			t.Errorf("result %+v, want an orderly end by the %v", got, r.side)
		}
	})
}

func TestDamagedRecord(t *testing.T) {
	eachSplit(t, func(t *testing.T, r *splitRig) {
		r.wire.hold = true
		r.send(r.peer, []byte("good"))
		r.send(r.peer, []byte("bad"))
		sent := r.wire.take()
		sent[len(sent)-1] ^= 1
		r.release(sent)
		r.expectEnd(r.far, "good")
		r.far.Close()
		if got := r.end(); got.By != r.side || got.Err == nil || got.from(r.side) != 4 {
			t.Errorf("result %+v, want a fault of the %v after 4 bytes", got, r.side)
		}
	})
}

func TestResetInsideRecord(t *testing.T) {
	eachSplit(t, func(t *testing.T, r *splitRig) {
		r.wire.hold = true
		r.send(r.peer, []byte("whole"))
		r.send(r.peer, []byte("torn off"))
		sent := r.wire.take()
		r.release(sent[:len(sent)-3])
		r.expect(r.far, "whole") // a reset may overtake what was not read yet
		reset(r.wire.Conn)
		r.expectEnd(r.far, "")
		r.far.Close()
		if got := r.end(); got.By != r.side || got.from(r.side) != 5 {
			t.Errorf("result %+v, want an end by the %v after 5 bytes", got, r.side)
		}
	})
}
