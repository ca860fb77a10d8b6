package relay

import (
	"crypto/tls"
	"net"
	"time"
)

// Stack is one connection of a pair, layer by layer.
type Stack struct {
	// Conn is the outermost layer, which carries what the pair relays. It is Socket itself, TLS,
	// or a protocol over one of them.
	Conn Conn
	// TLS is the layer directly over Socket, if that is TLS, and otherwise nil.
	TLS *tls.Conn
	// Socket is below all layers.
	Socket *Socket
}

// Conn is a layer of a [Stack]. A layer over a [Socket] must pass EAGAIN on, lose no bytes when it
// does, and hold back no bytes that it has read.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// NewStack returns the stack of a TLS connection over a [Socket], or of a Socket. Any other conn
// gets a Socket, and whatever conn consists of is no layer.
func NewStack(conn net.Conn) Stack {
	switch c := conn.(type) {
	case *Socket:
		return Stack{Conn: c, Socket: c}
	case *tls.Conn:
		if socket, ok := c.NetConn().(*Socket); ok {
			return Stack{Conn: c, TLS: c, Socket: socket}
		}
	}
	socket := NewSocket(conn)
	return Stack{Conn: socket, Socket: socket}
}

// layered reports whether there is a layer over the socket.
func (s *Stack) layered() bool { return s.Conn != Conn(s.Socket) }

// read and write move the bytes of the outermost layer.
func (s *Stack) read(b []byte) (int, error) {
	if s.layered() {
		return s.Conn.Read(b)
	}
	return s.Socket.Read(b)
}

func (s *Stack) write(b []byte) (int, error) {
	if s.layered() {
		return s.wrap(b)
	}
	return s.Socket.Write(b)
}

// wrap writes b to the outermost layer.
func (s *Stack) wrap(b []byte) (int, error) {
	if s.Conn == Conn(s.TLS) {
		return s.seal(b)
	}
	return s.Conn.Write(b)
}

// seal writes b as TLS records. crypto/tls sends each record on its own, and waking up the
// peer for each costs more than sending it; so all but the last are sent with MSG_MORE.
func (s *Stack) seal(b []byte) (n int, err error) {
	s.Socket.more.Store(true)
	for len(b)-n > maxPlaintext && err == nil {
		var m int
		m, err = s.TLS.Write(b[n : n+maxPlaintext])
		n += m
	}
	s.Socket.more.Store(false)
	if err != nil {
		return n, err
	}
	m, err := s.TLS.Write(b[n:])
	return n + m, err
}

// offer writes what the socket takes at once. A layer always writes all of b.
func (s *Stack) offer(b []byte) (int, error) {
	if s.layered() {
		return s.wrap(b)
	}
	return s.Socket.out.offer(b)
}

// flush writes what the socket still has to send, and then b.
func (s *Stack) flush(b []byte) (int, error) {
	if err := s.Socket.out.flush(); err != nil || len(b) == 0 {
		return 0, err
	}
	return s.write(b)
}

// writeNow writes to an end that has no goroutine. A layer takes all of b, and the socket
// keeps what cannot be sent in pending.
func (s *Stack) writeNow(b []byte) (int, error) {
	if s.layered() {
		return s.wrap(b)
	}
	n, err := writeNow(s.Socket.in, b, false)
	if again(err) {
		err = nil
	}
	return n, err
}

// longAgo is a deadline that ends every wait at once.
var longAgo = time.Unix(1, 0)

func (s *Stack) readUntil(t time.Time) { _ = s.Socket.Conn.SetReadDeadline(t) }

// closeWrite sends an end of stream on every layer. It reports false if no layer has one.
func (s *Stack) closeWrite() bool {
	ok := s.layered()
	if ok {
		_ = s.Conn.CloseWrite()
	}
	if _, can := s.Socket.Conn.(closeWriter); can {
		_ = s.Socket.CloseWrite()
		ok = true
	}
	return ok
}

// discard reads what the peer still sends, into b, until the peer closes or the deadline
// passes. Closing a socket with unread bytes resets the connection, and then the peer may
// never see the last packet.
func (s *Stack) discard(b []byte) {
	for n := 0; n < drainLimit; {
		m, err := s.Socket.Conn.Read(b)
		if n += m; err != nil {
			return
		}
	}
}

// drainLimit bounds how much discard reads of a peer that floods, in bytes.
const drainLimit = 1 << 20

// close closes the socket below the layers, since closing a TLS connection would write and
// could wait for up to five seconds.
func (s *Stack) close() { _ = s.Socket.Conn.Close() }
