package relay

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Socket is a stream socket whose reads can be told not to wait and whose writes
// give up on a peer that takes nothing. A TLS connection that is to be relayed
// must be built over one:
//
//	tls.Server(relay.NewSocket(conn), config)
//
// Until the connection is handed to a [Pump] it behaves as the connection inside,
// deadlines included.
//
// There are two for every session, for as long as it lasts: all that a session
// without goroutines can do without is in the attachment.
type Socket struct {
	*attachment

	// in is the descriptor while reads must not wait, else noDescriptor: inside of
	// the reading goroutine's try, and as long as there is no goroutine.
	in descriptor

	// more is set while TLS writes records that others will follow at once. The other
	// direction writes too now and then: answers to key updates.
	more atomic.Bool
}

// attachment is the connection under a Socket.
type attachment struct {
	net.Conn
	raw syscall.RawConn // nil if the connection has no descriptor
	out *output         // set from Start on, while there are goroutines

	// pending is what could not be written at once while there is no goroutine.
	pending []byte
}

// detached stands for the attachment of all sockets that have only a descriptor, and
// nothing pending. It never changes.
var detached = &attachment{Conn: closedConn{}}

// NewSocket wraps conn. A conn that is a [syscall.Conn] is read and written by its
// descriptor once it is relayed, so its own Read and Write must not change or hold
// back bytes. A connection without a descriptor is relayed with blocking reads.
func NewSocket(conn net.Conn) *Socket {
	s := &Socket{attachment: &attachment{Conn: conn}, in: noDescriptor}
	if sc, ok := conn.(syscall.Conn); ok && pollable {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// Read reads from the connection. Where the reader must not wait it returns EAGAIN
// if there is nothing.
func (s *Socket) Read(b []byte) (int, error) {
	if s.in != noDescriptor {
		return readNow(s.in, b)
	}
	return s.Conn.Read(b)
}

// Write writes all of b. Once relayed it waits only as long as the peer goes on
// taking bytes.
func (s *Socket) Write(b []byte) (int, error) {
	switch {
	case s.out != nil:
		return s.out.write(b, s.more.Load())
	case s.in != noDescriptor:
		return s.writeOrKeep(b)
	}
	return s.Conn.Write(b)
}

// writeOrKeep never says "not now": crypto/tls would write nothing ever after.
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

// CloseWrite tells the peer that nothing more will come, if the connection can say
// so; else it does nothing.
func (s *Socket) CloseWrite() error {
	if c, ok := s.Conn.(closeWriter); ok {
		return c.CloseWrite()
	}
	return nil
}

type closeWriter interface{ CloseWrite() error }
