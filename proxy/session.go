package proxy

import (
	"errors"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
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

// ended is the session's last act.
func (s *session) ended(r relay.Result) {
	defer s.srv.sessions.Done()
	s.srv.leave(s)
	client := s.current()
	s.srv.admission.leaveSession(s.ticket, client.Addr.Addr())
	if hook := s.srv.Trace.Closed; hook != nil {
		hook(client, s.endOf(client, r))
	}
}

func (s *session) current() *Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

func (s *session) publish(c *Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = c
}

// cut ends the session. It reports whether this call is what ended it.
func (s *session) cut(cause error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		// Only a hard close still changes something: it ends the time that the
		// first cut has left to both sides.
		if s.relay != nil && errors.Is(cause, errClosed) {
			s.relay.Cut(relay.Farewell{})
		}
		return false
	}
	s.cause = cause
	if s.relay != nil {
		s.cutRelay()
	} else {
		s.abort(cause)
	}
	return true
}

// start hands the pair to the pump. A session that was cut before ends right
// away, but in order: its client has a CONNACK already.
func (s *session) start(p *relay.Pump, pair relay.Pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relay, s.abort = p.Start(pair), nil
	if s.cause != nil {
		s.cutRelay()
	}
}

// cutRelay ends what flows, for s.cause. s.mu is held.
func (s *session) cutRelay() {
	if s.rare != nil && s.rare.ws != nil {
		s.rare.ws.SetCloseCode(closeCode(s.cause))
	}
	s.relay.Cut(farewell(s.cause, s.client.Level))
	if errors.Is(s.cause, errClosed) {
		s.relay.Cut(relay.Farewell{}) // without the time that a first cut leaves
	}
}

// expireAt arms the end of the grant, in place of an earlier one. A session
// without one costs nothing.
func (s *session) expireAt(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	if !t.IsZero() && !s.over {
		s.expiry = time.AfterFunc(time.Until(t), func() { s.cut(ErrExpired) })
	}
}

// disarm stops the session's timer for good.
func (s *session) disarm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.expiry != nil {
		s.expiry.Stop()
	}
}
