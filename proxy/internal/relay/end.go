package relay

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// borrowed is the size of a buffer that a direction holds only while it has
	// something to move: two full TLS records.
	borrowed = 32 << 10
	// kept is the size of the buffer of a source that can only be read blocking.
	kept = 4 << 10
)

type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, borrowed)} }}

// end is one connection of a pair: conn carries the bytes, socket is what it
// stands on.
type end struct {
	conn   net.Conn
	socket *Socket
	own    *buffer // for blocking reads only
}

func newEnd(conn net.Conn, stall time.Duration) *end {
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
	e.socket.stall.Store(int64(stall))
	return e
}

// gather waits until the source has something and returns all that is ready, up
// to one buffer. Bytes may come together with an error. The buffer, which may be
// nil, goes back with giveBack in any case.
func (e *end) gather() (buf *buffer, n int, err error) {
	if e.socket.raw == nil {
		return e.readBlocking()
	}
	waitErr := e.socket.ready(func() bool {
		buf = buffers.Get().(*buffer)
		if n, err = e.readAll(buf.b); n > 0 || err != nil {
			return true
		}
		buffers.Put(buf)
		buf = nil
		return false
	})
	if err == nil {
		err = waitErr
	}
	return buf, n, err
}

// readAll reads until nothing is left or b is full; nothing at all is 0, nil. A
// plain socket that returns less than it was asked for is empty. TLS returns one
// record at a time and has to be asked until it says so.
func (e *end) readAll(b []byte) (n int, err error) {
	plain := e.conn == net.Conn(e.socket)
	for n < len(b) {
		m, err := e.conn.Read(b[n:])
		n += m
		switch {
		case again(err):
			return n, nil
		case err != nil || plain:
			return n, err
		}
	}
	return n, nil
}

func (e *end) readBlocking() (*buffer, int, error) {
	if e.own == nil {
		e.own = &buffer{make([]byte, kept)}
	}
	n, err := e.conn.Read(e.own.b)
	return e.own, n, err
}

func (e *end) giveBack(b *buffer) {
	if b != nil && b != e.own {
		buffers.Put(b)
	}
}

// longAgo as a deadline wakes whoever waits.
var longAgo = time.Unix(1, 0)

func (e *end) stopReading()          { e.readUntil(longAgo) }
func (e *end) readUntil(t time.Time) { _ = e.socket.Conn.SetReadDeadline(t) }

// hurry gives writes, also one that waits already, no more than d from now on.
func (e *end) hurry(d time.Duration) {
	e.socket.stall.Store(int64(d))
	_ = e.socket.Conn.SetWriteDeadline(time.Now().Add(d))
}

// closeWrite says on every layer that nothing more will come.
func (e *end) closeWrite() {
	if c, ok := e.conn.(*tls.Conn); ok {
		_ = c.CloseWrite()
	}
	_ = e.socket.CloseWrite()
}

// drain throws away what the peer still sends until it closes or t has come: a
// socket closed with unread bytes in it resets the connection, and then the peer
// may never see our last words.
func (e *end) drain(t time.Time) {
	e.readUntil(t)
	_, _ = io.Copy(io.Discard, io.LimitReader(e.socket.Conn, drainLimit))
}

// drainLimit bounds what a flooding peer can make us read at the end, in bytes.
const drainLimit = 1 << 20

// close closes the socket itself: closing a TLS connection would write, and wait
// for up to five seconds.
func (e *end) close() { _ = e.socket.Conn.Close() }
