package harness

import (
	"net"
	"testing"

	"github.com/pires/go-proxyproto"
)

// HeaderSink is a Sink that only accepts connections with a PROXY protocol header. It
// keeps the headers.
type HeaderSink struct {
	Sink
	Headers chan *proxyproto.Header
}

// StartHeaderSink runs a HeaderSink until the test ends.
func StartHeaderSink(t testing.TB) *HeaderSink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &HeaderSink{Headers: make(chan *proxyproto.Header, 16)}
	h.Listener = headerListener{&proxyproto.Listener{Listener: ln}, h.Headers}
	h.start(t)
	return h
}

// headerListener sends the header of each connection to seen.
type headerListener struct {
	net.Listener
	seen chan<- *proxyproto.Header
}

func (l headerListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.seen <- conn.(*proxyproto.Conn).ProxyHeader()
	}
	return conn, err
}

// CheckHeader fails the test unless the header has the addresses of a device's
// connection.
func CheckHeader(t testing.TB, h *proxyproto.Header, conn net.Conn) {
	t.Helper()
	if h == nil || h.SourceAddr.String() != conn.LocalAddr().String() || h.DestinationAddr.String() != conn.RemoteAddr().String() {
		t.Errorf("the broker gets %+v, want %v to %v", h, conn.LocalAddr(), conn.RemoteAddr())
	}
}
