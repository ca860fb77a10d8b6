package relay

import (
	"crypto/tls"
	"net"
	"time"
)

// end is one connection of a pair: a socket, and the outermost layer on top of it if there is
// one. A layer is TLS, or a protocol on top of TLS.
type end struct {
	layer  layer
	socket *Socket
}

// layer is a connection on top of another, which NetConn returns.
type layer interface {
	net.Conn
	closeWriter
	NetConn() net.Conn
}

// newEnd finds the socket below conn by NetConn, layer by layer.
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

// records returns the TLS connection among the layers, or nil if there is none.
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

// seal writes b as TLS records. crypto/tls sends each record on its own, and waking up the
// peer for each costs more than sending it; so all but the last are sent with MSG_MORE.
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

// offer writes what the socket takes at once. A layer always writes all of b.
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

// writeNow writes to an end that has no goroutine. A layer takes all of b, and the socket
// keeps what cannot be sent in pending.
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

// longAgo is a deadline that ends every wait at once.
var longAgo = time.Unix(1, 0)

func (e *end) stopReading()          { e.readUntil(longAgo) }
func (e *end) readUntil(t time.Time) { _ = e.socket.Conn.SetReadDeadline(t) }

// closeWrite sends an end of stream on every layer. It reports false if no layer has one.
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

// discard reads what the peer still sends, into b, until the peer closes or the deadline
// passes. Closing a socket with unread bytes resets the connection, and then the peer may
// never see the last packet.
func (e *end) discard(b []byte) {
	for n := 0; n < drainLimit; {
		m, err := e.socket.Conn.Read(b)
		if n += m; err != nil {
			return
		}
	}
}

// drainLimit bounds how much discard reads of a peer that floods, in bytes.
const drainLimit = 1 << 20

// close closes the socket below the layers, since closing a TLS connection would write and
// could wait for up to five seconds.
func (e *end) close() { _ = e.socket.Conn.Close() }
