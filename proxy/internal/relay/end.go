package relay

import (
	"crypto/tls"
	"net"
	"time"
)

// end is one connection of a pair: a socket, and the outermost layer over it if there
// is one, TLS or what stands on TLS.
type end struct {
	layer  layer
	socket *Socket
}

// layer is a connection that is made of another.
type layer interface {
	net.Conn
	closeWriter
	NetConn() net.Conn
}

func newEnd(conn net.Conn) end {
	outermost, _ := conn.(layer)
	for inner := conn; ; {
		switch c := inner.(type) {
		case *Socket:
			return end{layer: outermost, socket: c}
		case layer:
			inner = c.NetConn()
		default:
			return end{socket: NewSocket(conn)}
		}
	}
}

func (e *end) layered() bool { return e.layer != nil }

// records returns the TLS connection among the layers, nil without one.
func (e *end) records() *tls.Conn {
	inner := net.Conn(e.layer)
	for {
		switch c := inner.(type) {
		case *tls.Conn:
			return c
		case layer:
			inner = c.NetConn()
		default:
			return nil
		}
	}
}

// read and write move the bytes of the outermost layer.
func (e *end) read(b []byte) (int, error) {
	if e.layered() {
		return e.layer.Read(b)
	}
	return e.socket.Read(b)
}

func (e *end) write(b []byte) (int, error) {
	if e.layered() {
		return e.wrap(b)
	}
	return e.socket.Write(b)
}

// wrap writes b to the outermost layer.
func (e *end) wrap(b []byte) (int, error) {
	if c, ok := e.layer.(*tls.Conn); ok {
		return e.seal(c, b)
	}
	return e.layer.Write(b)
}

// seal writes b in records. The kernel is told which is the last one: crypto/tls sends
// each on its own, and waking up the peer for each costs more than the sending.
func (e *end) seal(c *tls.Conn, b []byte) (n int, err error) {
	e.socket.more.Store(true)
	for len(b)-n > maxPlaintext && err == nil {
		var m int
		m, err = c.Write(b[n : n+maxPlaintext])
		n += m
	}
	e.socket.more.Store(false)
	if err != nil {
		return n, err
	}
	m, err := c.Write(b[n:])
	return n + m, err
}

// offer writes what goes at once. A layer has no such thing: it writes all of b.
func (e *end) offer(b []byte) (int, error) {
	if e.layered() {
		return e.wrap(b)
	}
	return e.socket.out.offer(b)
}

// flush writes what the socket still has to send, and then b.
func (e *end) flush(b []byte) (int, error) {
	if err := e.socket.out.flush(); err != nil || len(b) == 0 {
		return 0, err
	}
	return e.write(b)
}

// writeNow writes to an end that has no goroutine. A layer takes all of b and leaves
// what cannot be sent in the socket's pending.
func (e *end) writeNow(b []byte) (int, error) {
	if e.layered() {
		return e.wrap(b)
	}
	n, err := writeNow(e.socket.in, b, false)
	if again(err) {
		err = nil
	}
	return n, err
}

// longAgo as a deadline wakes whoever waits.
var longAgo = time.Unix(1, 0)

func (e *end) stopReading()          { e.readUntil(longAgo) }
func (e *end) readUntil(t time.Time) { _ = e.socket.Conn.SetReadDeadline(t) }

// closeWrite says on every layer that nothing more will come. It reports false if
// no layer can say so.
func (e *end) closeWrite() bool {
	ok := e.layered()
	if ok {
		_ = e.layer.CloseWrite()
	}
	if _, can := e.socket.Conn.(closeWriter); can {
		_ = e.socket.CloseWrite()
		ok = true
	}
	return ok
}

// discard throws away what the peer still sends until it closes or its deadline
// comes: a socket closed with unread bytes in it resets the connection, and then the
// peer may never see our last words. It reads into b.
func (e *end) discard(b []byte) {
	for n := 0; n < drainLimit; {
		m, err := e.socket.Conn.Read(b)
		if n += m; err != nil {
			return
		}
	}
}

// drainLimit bounds what a flooding peer can make us read at the end, in bytes.
const drainLimit = 1 << 20

// close closes the socket itself: closing a TLS connection would write, and wait
// for up to five seconds.
func (e *end) close() { _ = e.socket.Conn.Close() }
