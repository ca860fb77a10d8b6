package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// slotHold is the longest a connection may hold a handshake slot. A client that
// stops in the middle of a handshake costs no CPU and must not keep others out.
const slotHold = time.Second

// handshakeKey finds the gate of a connection in the context of its handshake.
type handshakeKey struct{}

// handshakeGate lets a bounded number of handshakes compute at the same time.
type handshakeGate struct {
	slots   chan struct{}
	release func()
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
	}
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

// handshake makes c.nc of the accepted connection.
func (c *conn) handshake(ctx context.Context, deadline time.Time) error {
	socket := relay.NewSocket(c.raw)
	c.nc = socket
	if c.entry.tls == nil {
		return nil
	}
	begin := time.Now()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	tc := tls.Server(socket, c.entry.tls)
	gate := &handshakeGate{slots: c.policy.handshakes}
	defer gate.leave()
	if err := tc.HandshakeContext(context.WithValue(ctx, handshakeKey{}, gate)); err != nil {
		return handshakeError(err)
	}
	state := tc.ConnectionState()
	c.nc, c.state = tc, &state
	if hook := c.srv.Trace.Secured; hook != nil {
		hook(Handshake{Listener: c.entry.name(), Resumed: state.DidResume, Duration: time.Since(begin)})
	}
	if len(state.VerifiedChains) > 0 {
		c.peer = state.VerifiedChains[0][0]
	}
	return nil
}

func handshakeError(err error) error {
	var notTLS tls.RecordHeaderError
	switch {
	case isTimeout(err):
		return refuse(ConnectTimeout, errors.New("no complete TLS handshake"))
	case errors.As(err, &notTLS) && notTLS.Conn != nil:
		return refuse(TLSFailed, errors.New("the client does not speak TLS; is it configured for the plain port?"))
	}
	return refuse(TLSFailed, err)
}
