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

// handshakeKey is the key of the slot in the context of a handshake.
type handshakeKey struct{}

// handshakeSlot is the place of one handshake among those that may compute at the same time. All
// handshakes of a policy share the channel slots.
type handshakeSlot struct {
	slots    chan struct{}
	ctx      context.Context // of the connection
	deadline time.Time       // of the handshake
	giveBack func()          // nil while the handshake has no slot
	last     lastRead
}

// acquire waits for a slot. It is called once the whole ClientHello has been read, so that
// a silent client takes none.
func (h *handshakeSlot) acquire() error {
	select {
	case h.slots <- struct{}{}:
	default:
		ctx, cancel := context.WithDeadline(h.ctx, h.deadline)
		defer cancel()
		select {
		case h.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var once sync.Once
	giveBack := func() { once.Do(func() { <-h.slots }) }
	timer := time.AfterFunc(slotHold, giveBack)
	h.giveBack = func() { timer.Stop(); giveBack() }
	return nil
}

// release gives the slot back, if the handshake has one.
func (h *handshakeSlot) release() {
	if h.giveBack != nil {
		h.giveBack()
		h.giveBack = nil
	}
}

// slotConn gives the slot back before it waits for the client. The server computes nearly
// everything between the ClientHello and its own flight, and a slot that is held for a round trip
// would serve one device in the time of many. The relay reads and writes the socket itself.
type slotConn struct {
	net.Conn
	slot *handshakeSlot
}

// slotSocket is a slotConn that has a socket.
type slotSocket struct {
	slotConn
	syscall.Conn
}

// guard returns conn with reads that release the slot.
func (h *handshakeSlot) guard(conn net.Conn) net.Conn {
	guarded := slotConn{conn, h}
	if socket, ok := conn.(syscall.Conn); ok {
		return slotSocket{guarded, socket}
	}
	return guarded
}

func (c slotConn) Read(b []byte) (int, error) {
	c.slot.release()
	n, err := c.Conn.Read(b)
	c.slot.last.add(b[:n])
	return n, err
}

// CloseWrite closes the writing side, if the connection can do that.
func (c slotConn) CloseWrite() error {
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
		if slot, ok := hello.Context().Value(handshakeKey{}).(*handshakeSlot); ok {
			if err := slot.acquire(); err != nil {
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
	slot := &handshakeSlot{slots: c.policy.handshakes, ctx: c.ctx, deadline: deadline}
	socket := relay.NewSocket(slot.guard(c.arrival.raw))
	tc := tls.Server(socket, c.listener.tls)
	c.arrival.transport = relay.NewStack(socket)
	// For a context that can end, crypto/tls would start a goroutine. The deadline is that of the
	// socket already.
	release := interruptible(c.ctx, c.arrival.raw)
	err := tc.HandshakeContext(context.WithValue(context.Background(), handshakeKey{}, slot))
	release()
	slot.release()
	if err != nil {
		return handshakeError(err, &slot.last)
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
