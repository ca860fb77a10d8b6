package relay

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Socket is a stream socket that a [Pump] can read without waiting, and whose writes fail if
// the peer takes nothing. A TLS connection that is to be relayed must be built on top of one:
//
//	tls.Server(relay.NewSocket(conn), config)
//
// Until the connection is handed to a [Pump] it behaves like the connection inside, including
// deadlines.
//
// A session keeps two sockets for as long as it lasts. So what a session without goroutines
// does not need is in the attachment.
type Socket struct {
	*attachment

	// in is the descriptor while reads must not wait, and otherwise noDescriptor. Reads must
	// not wait inside the reading goroutine's try, and while there is no goroutine.
	in descriptor

	// more is set while TLS writes records that others follow at once. It is atomic because
	// the other direction's goroutine also writes at times, to answer key updates.
	more atomic.Bool
}

// attachment is the connection under a Socket.
type attachment struct {
	net.Conn
	raw syscall.RawConn // nil if the connection has no descriptor
	out *output         // set from Start on, while there are goroutines

	// pending is what could not be written at once while there was no goroutine.
	pending []byte
}

// detached is the attachment of all sockets that have only a descriptor and nothing pending.
// It never changes.
var detached = &attachment{Conn: closedConn{}}

// NewSocket wraps conn. A conn that is a [syscall.Conn] is read and written through its
// descriptor once it is relayed, so its own Read and Write must not change or hold back bytes.
// A connection without a descriptor is relayed with blocking reads.
func NewSocket(conn net.Conn) *Socket {
	s := &Socket{attachment: &attachment{Conn: conn}, in: noDescriptor}
	if sc, ok := conn.(syscall.Conn); ok && pollable {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// Read reads from the connection. Where reads must not wait, it returns EAGAIN if there are no
// bytes.
func (s *Socket) Read(b []byte) (int, error) {
	if s.in != noDescriptor {
		return readNow(s.in, b)
	}
	return s.Conn.Read(b)
}

// Write writes all of b. Once the connection is relayed, Write waits only as long as the peer
// continues to take bytes.
func (s *Socket) Write(b []byte) (int, error) {
	switch {
	case s.out != nil:
		return s.out.write(b, s.more.Load())
	case s.in != noDescriptor:
		return s.writeOrKeep(b)
	}
	return s.Conn.Write(b)
}

// writeOrKeep writes without waiting, and keeps the rest in pending. It never returns EAGAIN,
// since crypto/tls would fail every later write.
func (s *Socket) writeOrKeep(b []byte) (n int, err error) {
	if len(s.pending) == 0 {
		if n, err = writeNow(s.in, b, s.more.Load()); err != nil && !again(err) {
			return n, err
		}
	}
	if n == len(b) {
		return n, nil
	}
	if s.attachment == detached {
		s.attachment = &attachment{Conn: closedConn{}}
	}
	s.pending = append(s.pending, b[n:]...)
	return len(b), nil
}

// SetWriteDeadline sets the connection's deadline. It does nothing once the
// connection is relayed: crypto/tls sets one of its own when it closes, and would
// overwrite the pump's.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	if s.out != nil || s.in != noDescriptor {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}

// CloseWrite sends an end of stream, if the connection has a half close. Otherwise it does
// nothing.
func (s *Socket) CloseWrite() error {
	if c, ok := s.Conn.(closeWriter); ok {
		return c.CloseWrite()
	}
	return nil
}

// closeWriter is a connection with a half close.
type closeWriter interface{ CloseWrite() error }
