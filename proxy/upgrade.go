package proxy

import (
	"errors"
	"io"
	"net/netip"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// upgrade opens the WebSocket connection that carries MQTT, if the listener is one for that.
func (c *conn) upgrade() error {
	if c.listener.ws == nil {
		return nil
	}
	ws, request, err := c.listener.ws.Accept(c.arrival.transport.Conn, c.arrival.addr.Addr())
	if err != nil {
		return upgradeError(err)
	}
	c.arrival.transport.Conn, c.arrival.ws, c.arrival.opening = ws, ws, request
	if !request.Client.IsValid() {
		return nil
	}
	c.arrival.addr = netip.AddrPortFrom(request.Client, 0)
	return c.countKnownAddress()
}

// behindReverseProxy reports whether the peer is a reverse proxy whose HTTP request will say
// whose connection it is.
func (c *conn) behindReverseProxy() bool {
	return c.listener.ws != nil && containsAddr(c.listener.ws.Trusted, c.arrival.addr.Addr())
}

// upgradeError returns the refusal for an error of the upgrade.
func upgradeError(err error) error {
	var refused *websocket.StatusError
	switch {
	case errors.As(err, &refused):
		return refuse(HTTPRefused, err)
	case errors.Is(err, websocket.ErrNotHTTP):
		return refuse(NotMQTT, errors.New("no HTTP request; is the client configured for MQTT without WebSocket?"))
	case isTimeout(err):
		return refuse(ConnectTimeout, errors.New("no complete HTTP request"))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(ConnectionLost, errors.New("closed by the client before its HTTP request was complete"))
	}
	return refuse(ConnectionLost, err)
}

// isFrameError reports whether a WebSocket frame broke a rule.
func isFrameError(err error) bool {
	var breach *websocket.FrameError
	return errors.As(err, &breach)
}

// setCloseCode sets the code of the Close frame that a refused WebSocket client gets besides
// its CONNACK.
func (a *arrival) setCloseCode(r Reason) {
	if a.ws == nil {
		return
	}
	switch r {
	case Draining:
		a.ws.SetCloseCode(websocket.GoingAway)
	case NotMQTT, Malformed, TooLarge:
		a.ws.SetCloseCode(websocket.ProtocolError)
	default:
		a.ws.SetCloseCode(websocket.PolicyViolation)
	}
}
