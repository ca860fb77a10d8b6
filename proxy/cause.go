package proxy

import (
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// The causes for which a session is cut, for [Server.Kick]. Any other error has the effect
// of ErrKicked. The codes are those of the DISCONNECT that a client of MQTT 5.0 gets; the
// connection of older clients is closed.
var (
	// ErrRevoked: the token is no longer good. The client gets 0x98. The broker gets a
	// DISCONNECT, so that it does not publish the will.
	ErrRevoked = errors.New("revoked")
	// ErrExpired: the grant has expired. The client gets 0x87. The broker gets no
	// DISCONNECT, so that it publishes the will.
	ErrExpired = errors.New("expired")
	// ErrKicked: an operator ended the session. The client gets 0x98, and the will is
	// published.
	ErrKicked = errors.New("kicked")
	// ErrDisplaced: a newer session of the same subject took its place. The client gets
	// 0x8E, and the will is published.
	ErrDisplaced = errors.New("displaced by a newer session")
	// ErrDraining: the server is shutting down. The client gets 0x8B, after what the
	// broker still had for it. The will is published.
	ErrDraining = errors.New("draining")
	// ErrUpstreamLost: the broker no longer answers, which the session itself would notice
	// only later. The client gets 0x8B, the broker gets nothing.
	ErrUpstreamLost = errors.New("the broker no longer answers")
	// errClosed is the cause of a hard close: neither side gets a packet.
	errClosed = errors.New("server closed")
)

// closeNotice returns how a session of the given protocol level is ended for cause.
// Versions below 5.0 have no DISCONNECT from the server (MQTT 5.0 section 3.14). Its three
// bytes are within every client's Maximum Packet Size, because the CONNACK that the client
// has received takes five.
func closeNotice(cause error, level byte) relay.CloseNotice {
	f := relay.CloseNotice{Err: cause}
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

// closeCode returns the code of the Close frame that a WebSocket client gets when its
// session is cut.
func closeCode(cause error) int {
	if errors.Is(cause, ErrDraining) || errors.Is(cause, ErrUpstreamLost) || errors.Is(cause, errClosed) {
		return websocket.GoingAway
	}
	return websocket.PolicyViolation
}

// cutReason returns the reason of a refusal for a session that was cut before its relay
// started.
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

// denialCause returns why a session ends for which an Authorizer now returns the denial err.
func denialCause(err error) error {
	var d *authz.Denial
	if errors.As(err, &d) && d.Reason == authz.Expired {
		return ErrExpired
	}
	return ErrRevoked
}
