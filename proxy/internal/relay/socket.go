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
// As a net.Conn it behaves as the connection inside, deadlines included.
type Socket struct {
	net.Conn
	raw syscall.RawConn // nil if the connection has no descriptor

	// stall is how long, in nanoseconds, a write may wait without the peer
	// taking a single byte; 0 leaves deadlines to whoever holds the connection.
	stall atomic.Int64

	// fd is the descriptor while the reading goroutine is inside ready, else
	// noDescriptor. Only that goroutine touches it.
	fd descriptor
}

// NewSocket wraps conn. A connection without a descriptor is allowed and is
// relayed with blocking reads.
func NewSocket(conn net.Conn) *Socket {
	s := &Socket{Conn: conn, fd: noDescriptor}
	if sc, ok := conn.(syscall.Conn); ok && pollable {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// Read reads from the connection. Inside ready it never waits: it returns
// EAGAIN when there is nothing.
func (s *Socket) Read(b []byte) (int, error) {
	if s.fd != noDescriptor {
		return readNow(s.fd, b)
	}
	return s.Conn.Read(b)
}

// Write writes all of b. If a stall limit is set it replaces the write deadline.
func (s *Socket) Write(b []byte) (int, error) {
	stall := time.Duration(s.stall.Load())
	switch {
	case stall <= 0:
		return s.Conn.Write(b)
	case s.raw == nil:
		if err := s.Conn.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return 0, err
		}
		return s.Conn.Write(b)
	}
	return s.writeStalling(b)
}

// writeStalling writes with the descriptor and sets a deadline only if the
// socket's own buffer is full: a timer per message would cost more than the
// message.
func (s *Socket) writeStalling(b []byte) (n int, err error) {
	waited := false
	rawErr := s.raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			var m int
			if m, err = writeNow(descriptor(fd), b[n:]); m > 0 {
				n += m
				continue
			}
			if !again(err) {
				return true
			}
			err = nil
			waited = true
			_ = s.Conn.SetWriteDeadline(time.Now().Add(time.Duration(s.stall.Load())))
			return false
		}
		return true
	})
	if waited && rawErr == nil {
		_ = s.Conn.SetWriteDeadline(time.Time{})
	}
	if err == nil {
		err = rawErr
	}
	return n, err
}

// ready calls read until it reports true. Before each further call it waits,
// holding nothing, until the socket is readable. Inside read, Read does not wait.
//
// The first call comes at once and must really try to read: the runtime forgets
// a readiness that came before it.
func (s *Socket) ready(read func() bool) error {
	return s.raw.Read(func(fd uintptr) bool {
		s.fd = descriptor(fd)
		defer func() { s.fd = noDescriptor }()
		return read()
	})
}

// CloseWrite tells the peer that nothing more will come, if the connection can
// say so.
func (s *Socket) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
