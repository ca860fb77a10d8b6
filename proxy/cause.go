package proxy

import (
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// The causes for which a session is cut, for [Server.Kick]. Any other error works
// like ErrKicked.
var (
	// ErrRevoked: the token is no longer good. The client gets reason code 0x98,
	// the broker a DISCONNECT, so that the will is not sent.
	ErrRevoked = errors.New("revoked")
	// ErrExpired: the grant's time is over. The client gets 0x87, the broker no
	// DISCONNECT, so that the will is sent.
	ErrExpired = errors.New("expired")
	// ErrKicked: an operator ended the session. The client gets 0x98, the will
	// is sent.
	ErrKicked = errors.New("kicked")
	// ErrDisplaced: a newer session of the same subject took its place. The
	// client gets 0x8E, the will is sent.
	ErrDisplaced = errors.New("displaced by a newer session")
	// ErrDraining: the server shuts down. The client gets 0x8B; what the broker
	// still has for it is passed on before.
	ErrDraining = errors.New("draining")
	// ErrUpstreamLost: the broker no longer answers, which the session itself
	// would only notice later. The client gets 0x8B, the broker nothing.
	ErrUpstreamLost = errors.New("the broker no longer answers")
	// errClosed is the cause of a hard close: nobody is told anything.
	errClosed = errors.New("server closed")
)

// farewell returns how a session of the given protocol level is ended for cause.
// Versions below 5.0 have no DISCONNECT from the server (MQTT 5.0 section 3.14). Its
// three bytes are within every client's Maximum Packet Size: the CONNACK, which the
// client has got, takes five.
func farewell(cause error, level byte) relay.Farewell {
	f := relay.Farewell{Err: cause}
	if errors.Is(cause, errClosed) {
		return f
	}
	code := packets.AdministrativeAction
	switch {
	case errors.Is(cause, ErrRevoked):
		f.Upstream = (&packets.Disconnect{}).Append(nil, level)
	case errors.Is(cause, ErrExpired):
		code = packets.NotAuthorized
	case errors.Is(cause, ErrDisplaced):
		code = packets.SessionTakenOver
	case errors.Is(cause, ErrUpstreamLost):
		code = packets.ServerShuttingDown
	case errors.Is(cause, ErrDraining):
		code = packets.ServerShuttingDown
		f.Flush = true
	}
	if level == 5 {
		f.Client = (&packets.Disconnect{Code: code}).Append(nil, level)
	}
	return f
}

// closeCode returns what a WebSocket client is told when its session is cut.
func closeCode(cause error) int {
	if errors.Is(cause, ErrDraining) || errors.Is(cause, ErrUpstreamLost) || errors.Is(cause, errClosed) {
		return websocket.GoingAway
	}
	return websocket.PolicyViolation
}

// cutReason returns the reason for a session that was cut before it had begun.
func cutReason(cause error) Reason {
	switch {
	case errors.Is(cause, ErrRevoked):
		return Reason(authz.Revoked)
	case errors.Is(cause, ErrExpired):
		return Reason(authz.Expired)
	case errors.Is(cause, ErrDraining), errors.Is(cause, errClosed):
		return Draining
	case errors.Is(cause, ErrUpstreamLost):
		return UpstreamUnavailable
	}
	return Busy
}

// denialCause returns why a session ends whose grant is denied now.
func denialCause(err error) error {
	var d *authz.Denial
	if errors.As(err, &d) && d.Reason == authz.Expired {
		return ErrExpired
	}
	return ErrRevoked
}
