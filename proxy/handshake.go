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

// slotHold is the longest a connection may hold a handshake slot. A client that takes
// nothing of what the server sends costs no CPU time and must not keep others out.
const slotHold = time.Second

// handshakeKey is the key of the gate in the context of a handshake.
type handshakeKey struct{}

// handshakeGate lets a bounded number of handshakes compute at the same time. Each
// handshake has its own gate, and all gates of a policy share the slots.
type handshakeGate struct {
	slots    chan struct{}
	giveBack func() // nil while the handshake has no slot
	last     lastRead
}

// acquire waits for a slot. It is called once the whole ClientHello has been read, so that
// a silent client takes none.
func (g *handshakeGate) acquire(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var once sync.Once
	giveBack := func() { once.Do(func() { <-g.slots }) }
	timer := time.AfterFunc(slotHold, giveBack)
	g.giveBack = func() { timer.Stop(); giveBack() }
	return nil
}

// release gives the slot back, if the handshake has one.
func (g *handshakeGate) release() {
	if g.giveBack != nil {
		g.giveBack()
		g.giveBack = nil
	}
}

// gatedConn gives the slot back before it waits for the client. Nearly all of the computing
// lies between the ClientHello and the server's own flight, and a slot that is held for a
// round trip would serve one device in the time of many. The relay reads and writes the
// socket itself.
type gatedConn struct {
	net.Conn
	gate *handshakeGate
}

// gatedSocket is a gatedConn that has a socket.
type gatedSocket struct {
	gatedConn
	syscall.Conn
}

// guard returns conn with reads that release the slot.
func (g *handshakeGate) guard(conn net.Conn) net.Conn {
	gated := gatedConn{conn, g}
	if socket, ok := conn.(syscall.Conn); ok {
		return gatedSocket{gated, socket}
	}
	return gated
}

func (c gatedConn) Read(b []byte) (int, error) {
	c.gate.release()
	n, err := c.Conn.Read(b)
	c.gate.last.add(b[:n])
	return n, err
}

// CloseWrite closes the writing side, if the connection can do that.
func (c gatedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// limitHandshakes returns a config whose handshakes acquire a slot between the ClientHello
// and everything that is costly. It is called once for a listener, because a clone shares
// the session ticket keys for as long as the listener lives.
func limitHandshakes(config *tls.Config) *tls.Config {
	limited := config.Clone()
	inner := config.GetConfigForClient
	limited.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if gate, ok := hello.Context().Value(handshakeKey{}).(*handshakeGate); ok {
			if err := gate.acquire(hello.Context()); err != nil {
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

// handshake does the TLS handshake, if the listener is one for TLS.
func (c *conn) handshake(deadline time.Time) error {
	if c.listener.tls == nil {
		c.arrival.transport = relay.NewStack(c.arrival.raw)
		return nil
	}
	begin := time.Now()
	ctx, cancel := context.WithDeadline(c.ctx, deadline)
	defer cancel()
	gate := &handshakeGate{slots: c.policy.handshakes}
	socket := relay.NewSocket(gate.guard(c.arrival.raw))
	tc := tls.Server(socket, c.listener.tls)
	c.arrival.transport = relay.NewStack(socket)
	err := tc.HandshakeContext(context.WithValue(ctx, handshakeKey{}, gate))
	gate.release()
	if err != nil {
		return handshakeError(err, &gate.last)
	}
	state := tc.ConnectionState()
	c.arrival.transport, c.arrival.tls = relay.NewStack(tc), &state
	if hook := c.srv.Trace.Secured; hook != nil {
		hook(Handshake{Listener: c.listener.name, Resumed: state.DidResume, Duration: time.Since(begin)})
	}
	if len(state.VerifiedChains) > 0 {
		c.arrival.peer = state.VerifiedChains[0][0]
	}
	return nil
}

// handshakeError returns the refusal for a handshake that failed with err. last is the end
// of what the client has sent.
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
