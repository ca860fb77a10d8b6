package relay

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// end is one connection of a pair: conn carries the bytes, socket is what it
// stands on.
type end struct {
	conn   net.Conn
	socket *Socket
}

func newEnd(conn net.Conn) *end {
	e := &end{conn: conn}
	switch c := conn.(type) {
	case *Socket:
		e.socket = c
	case *tls.Conn:
		e.socket, _ = c.NetConn().(*Socket)
	}
	if e.socket == nil {
		e.socket = NewSocket(conn)
		e.conn = e.socket
	}
	return e
}

func (e *end) secured() bool { return e.conn != net.Conn(e.socket) }

// offer writes what goes at once. TLS has no such thing: it writes all of b.
func (e *end) offer(b []byte) (int, error) {
	if e.secured() {
		return e.conn.Write(b)
	}
	return e.socket.out.offer(b)
}

// flush writes what the socket still has to send, and then b.
func (e *end) flush(b []byte) (int, error) {
	if err := e.socket.out.flush(); err != nil || len(b) == 0 {
		return 0, err
	}
	return e.conn.Write(b)
}

// writeNow writes to an end that has no goroutine. TLS takes all of b and leaves
// what cannot be sent in the socket's pending.
func (e *end) writeNow(b []byte) (int, error) {
	if e.secured() {
		return e.conn.Write(b)
	}
	n, err := writeNow(e.socket.in, b)
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
	secured, ok := e.conn.(*tls.Conn)
	if ok {
		_ = secured.CloseWrite()
	}
	if _, can := e.socket.Conn.(closeWriter); can {
		_ = e.socket.CloseWrite()
		ok = true
	}
	return ok
}

// discard throws away what the peer still sends until it closes or its deadline
// comes: a socket closed with unread bytes in it resets the connection, and then the
// peer may never see our last words.
func (e *end) discard() {
	_, _ = io.Copy(io.Discard, io.LimitReader(e.socket.Conn, drainLimit))
}

// drainLimit bounds what a flooding peer can make us read at the end, in bytes.
const drainLimit = 1 << 20

// close closes the socket itself: closing a TLS connection would write, and wait
// for up to five seconds.
func (e *end) close() { _ = e.socket.Conn.Close() }
