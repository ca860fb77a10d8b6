package relay

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// end is one connection of a pair: a socket, and the TLS connection over it if there
// is one.
type end struct {
	tls    *tls.Conn
	socket *Socket
}

func newEnd(conn net.Conn) end {
	switch c := conn.(type) {
	case *Socket:
		return end{socket: c}
	case *tls.Conn:
		if socket, ok := c.NetConn().(*Socket); ok {
			return end{tls: c, socket: socket}
		}
	}
	return end{socket: NewSocket(conn)}
}

func (e *end) secured() bool { return e.tls != nil }

// read and write move the bytes of the outermost layer.
func (e *end) read(b []byte) (int, error) {
	if e.tls != nil {
		return e.tls.Read(b)
	}
	return e.socket.Read(b)
}

func (e *end) write(b []byte) (int, error) {
	if e.tls != nil {
		return e.seal(b)
	}
	return e.socket.Write(b)
}

// seal writes b in records. The kernel is told which is the last one: crypto/tls sends
// each on its own, and waking up the peer for each costs more than the sending.
func (e *end) seal(b []byte) (n int, err error) {
	e.socket.more.Store(true)
	for len(b)-n > maxPlaintext && err == nil {
		var m int
		m, err = e.tls.Write(b[n : n+maxPlaintext])
		n += m
	}
	e.socket.more.Store(false)
	if err != nil {
		return n, err
	}
	m, err := e.tls.Write(b[n:])
	return n + m, err
}

// offer writes what goes at once. TLS has no such thing: it writes all of b.
func (e *end) offer(b []byte) (int, error) {
	if e.secured() {
		return e.seal(b)
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

// writeNow writes to an end that has no goroutine. TLS takes all of b and leaves
// what cannot be sent in the socket's pending.
func (e *end) writeNow(b []byte) (int, error) {
	if e.secured() {
		return e.seal(b)
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
	ok := e.tls != nil
	if ok {
		_ = e.tls.CloseWrite()
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
