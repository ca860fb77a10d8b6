package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// slotHold is the longest a connection may hold a handshake slot: a client that takes
// none of what the server sends costs no CPU and must not keep others out.
const slotHold = time.Second

// handshakeKey finds the gate of a connection in the context of its handshake.
type handshakeKey struct{}

// handshakeGate lets a bounded number of handshakes compute at the same time.
type handshakeGate struct {
	slots   chan struct{}
	release func()
	last    lastRead
}

// enter waits for a slot. It is called once the whole ClientHello is there, so
// that a silent client takes none.
func (g *handshakeGate) enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var once sync.Once
	leave := func() { once.Do(func() { <-g.slots }) }
	timer := time.AfterFunc(slotHold, leave)
	g.release = func() { timer.Stop(); leave() }
	return nil
}

func (g *handshakeGate) leave() {
	if g.release != nil {
		g.release()
		g.release = nil
	}
}

// gatedConn gives the slot back before it waits for the client: nearly all of the
// computing lies between the ClientHello and the server's own flight, and a slot that
// is held for a round trip would serve one device in the time of many.
// Once the connection is relayed it reads and writes by the socket itself.
type gatedConn struct {
	net.Conn
	gate *handshakeGate
}

// gatedSocket is a gatedConn that has a socket.
type gatedSocket struct {
	gatedConn
	syscall.Conn
}

// guard returns conn with reads that leave the gate.
func (g *handshakeGate) guard(conn net.Conn) net.Conn {
	gated := gatedConn{conn, g}
	if socket, ok := conn.(syscall.Conn); ok {
		return gatedSocket{gated, socket}
	}
	return gated
}

func (c gatedConn) Read(b []byte) (int, error) {
	c.gate.leave()
	n, err := c.Conn.Read(b)
	c.gate.last.add(b[:n])
	return n, err
}

// CloseWrite ends one direction, if the connection can.
func (c gatedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// limitHandshakes returns a config whose handshakes pass the gate of their
// connection between the ClientHello and everything that is costly. It is made
// once for a listener: a clone shares the session ticket keys of the listener's
// life.
func limitHandshakes(config *tls.Config) *tls.Config {
	limited := config.Clone()
	inner := config.GetConfigForClient
	limited.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if gate, ok := hello.Context().Value(handshakeKey{}).(*handshakeGate); ok {
			if err := gate.enter(hello.Context()); err != nil {
				return nil, fmt.Errorf("waiting for a handshake slot: %w", err)
			}
		}
		if inner == nil {
			return nil, nil
		}
		return inner(hello)
	}
	return limited
}

// handshake makes c.arrival.transport of the accepted connection.
func (c *conn) handshake(deadline time.Time) error {
	if c.listener.tls == nil {
		c.arrival.transport = relay.NewSocket(c.arrival.raw)
		return nil
	}
	begin := time.Now()
	ctx, cancel := context.WithDeadline(c.ctx, deadline)
	defer cancel()
	gate := &handshakeGate{slots: c.policy.handshakes}
	socket := relay.NewSocket(gate.guard(c.arrival.raw))
	tc := tls.Server(socket, c.listener.tls)
	c.arrival.transport = socket
	err := tc.HandshakeContext(context.WithValue(ctx, handshakeKey{}, gate))
	gate.leave()
	if err != nil {
		return handshakeError(err, &gate.last)
	}
	state := tc.ConnectionState()
	c.arrival.transport, c.arrival.tls = tc, &state
	if hook := c.srv.Trace.Secured; hook != nil {
		hook(Handshake{Listener: c.listener.name, Resumed: state.DidResume, Duration: time.Since(begin)})
	}
	if len(state.VerifiedChains) > 0 {
		c.arrival.peer = state.VerifiedChains[0][0]
	}
	return nil
}

// handshakeError gives a handshake that failed its reason; last is the end of what the
// client has sent.
func handshakeError(err error, last *lastRead) error {
	var notTLS tls.RecordHeaderError
	alert, ended := alertOf(err, last)
	switch {
	case ended:
		return refuse(TLSFailed, alertError(alert))
	case isTimeout(err):
		return refuse(ConnectTimeout, errors.New("no complete TLS handshake"))
	case errors.As(err, &notTLS) && notTLS.Conn != nil:
		return refuse(TLSFailed, errors.New("the client does not speak TLS; is it configured for the plain port?"))
	}
	return refuse(TLSFailed, err)
}
