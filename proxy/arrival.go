package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// arrival is what comes before MQTT.
type arrival struct {
	accepted time.Time
	raw      net.Conn       // as accepted; all deadlines are set on it
	addr     netip.AddrPort // the client's address, as far as it is known by now

	ticket  ticket
	waiting waiting // guarded by admission.mu
	excess  error   // why a connection beyond a limit is refused; nil for others

	header *proxyproto.Header // of the load balancer in front; nil if none is required
	probe  bool               // the load balancer connects on its own behalf

	// transport carries MQTT: the socket of raw, and TLS and WebSocket over it. It is zero
	// until the TLS handshake begins.
	transport relay.Stack
	tls       *tls.ConnectionState // nil without TLS
	peer      *x509.Certificate    // the verified certificate of the client; nil without one
	ws        *websocket.Conn      // nil without WebSocket
	opening   *websocket.Request   // the request that opened ws
}

// readConnect opens the transport and reads one CONNECT, all of it under one absolute
// deadline that no byte of the client extends.
func (c *conn) readConnect() error {
	deadline := c.arrival.accepted.Add(c.policy.connectTimeout())
	if err := c.arrival.raw.SetDeadline(deadline); err != nil {
		return c.noConnect(refuse(ConnectionLost, err))
	}
	switch {
	case c.ctx.Err() != nil:
		c.setReadDeadline(time.Unix(1, 0))
	case c.arrival.excess != nil, c.srv.draining():
		c.setReadDeadline(time.Now().Add(lingerTimeout))
	}
	if err := c.openTransport(deadline); err != nil {
		return c.noConnect(err)
	}
	connect, err := packets.ReadConnect(c.arrival.transport.Conn, c.policy.maxConnect())
	if err != nil {
		return c.noConnect(c.connectError(err))
	}
	c.login.connect, c.login.level = connect, connect.Level
	return nil
}

// openTransport does what comes before MQTT.
func (c *conn) openTransport(deadline time.Time) error {
	if err := c.readHeader(); err != nil {
		return err
	}
	if err := c.handshake(deadline); err != nil {
		return err
	}
	return c.upgrade()
}

// setReadDeadline ends reading earlier. It may be called from any goroutine.
func (c *conn) setReadDeadline(t time.Time) { _ = c.arrival.raw.SetReadDeadline(t) }

// noConnect returns the error for a connection that has not sent its CONNECT. It is err, unless
// the connection was closed to make room, had little time because it was to be refused in any
// case, or was a health check.
func (c *conn) noConnect(err error) error {
	var refused *RefusedError
	switch {
	case context.Cause(c.ctx) == errDisplaced:
		return refuse(Displaced, nil)
	case c.arrival.excess != nil && errors.As(err, &refused) && refused.Reason == ConnectTimeout:
		return c.arrival.excess
	}
	return c.asHealthCheck(err)
}

// checkAdmission refuses a client that has sent its CONNECT for what is known without its
// token.
func (c *conn) checkAdmission() error {
	switch {
	case !c.srv.admission.endPending(c):
		return refuse(Displaced, nil)
	case c.srv.draining():
		return refuse(Draining, nil)
	case c.arrival.excess != nil:
		return c.arrival.excess
	case !c.policy.accepts(c.login.level):
		return refuse(WrongVersion, fmt.Errorf("MQTT %s is not allowed here", versionName(c.login.level)))
	}
	return nil
}
