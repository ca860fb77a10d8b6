package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// session is a connection whose token is good. A server has many, and most of them are
// idle: what a session needs for as long as it lives, and does not show to others as
// part of its Client, is in this one allocation.
type session struct {
	srv *Server
	// The relay asks for client while it holds a lock of its own, so mu, which is held
	// while the relay is called, cannot guard it.
	client atomic.Pointer[Client]

	// These are set before the relay starts and do not change afterwards.
	extras    *extras // nil in most sessions
	release   func()  // gives the session's place at the broker back; may be nil
	ticket    ticket
	rechecked bool   // the session is in srv.rechecks
	rechecks  uint64 // srv.rechecks.count() when the Authorizer was asked
	framers   [2]packets.Framer

	mu     sync.Mutex              // guards what follows
	relay  *relay.Session          // nil until the relay starts
	cause  error                   // why the session was cut; nil while it was not
	abort  context.CancelCauseFunc // ends the connecting to a broker; nil once the relay has started
	expiry *time.Timer
	over   bool // no timer may be started any more

	// These are guarded by registry.mu.
	place        int32    // index in registry.sessions plus 1; 0 for a session that is not there
	owns         string   // the client id that the session has claimed
	newer, older *session // neighbours among the sessions of the same subject
	earlier      *session // has claimed the same client id before, for the same subject
}

// extras is what only sessions over WebSocket, or with topic rules or limits need.
type extras struct {
	ws     *websocket.Conn // nil without WebSocket
	denied atomic.Int64    // messages and subscriptions that were not allowed
	rules  *rules          // nil if none can apply to the session
	// renewal is nil if the client cannot renew its token.
	renewal *renewal
}

// rules returns what the session's rights follow from, nil if there is nothing.
func (s *session) rules() *rules {
	if s.extras == nil {
		return nil
	}
	return s.extras.rules
}

// current returns the session's Client as it is now.
func (s *session) current() *Client { return s.client.Load() }

// change replaces the session's Client by a copy with a change, and returns that. The grant may
// be replaced at the same time, by that of a token file that was edited.
func (s *session) change(change func(*Client)) *Client {
	for {
		old := s.current()
		next := *old
		change(&next)
		if s.client.CompareAndSwap(old, &next) {
			return &next
		}
	}
}

// start hands the pair to the pump. A session that was cut before ends at once, but with
// a DISCONNECT: its client has received a CONNACK already.
func (s *session) start(p *relay.Pump, pair relay.Pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relay, s.abort = p.Start(pair), nil
	if s.cause != nil {
		s.cutRelay()
	}
}

// cut ends the session and reports whether this call did it. Only the first cut counts,
// except that errClosed ends the time which an earlier one has left to both sides.
func (s *session) cut(cause error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		if s.relay != nil && errors.Is(cause, errClosed) {
			s.relay.Cut(relay.CloseNotice{})
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

// cutRelay ends the relay for s.cause. The caller holds s.mu.
func (s *session) cutRelay() {
	if s.extras != nil && s.extras.ws != nil {
		s.extras.ws.SetCloseCode(cutInfo(s.cause).closeCode)
	}
	s.relay.Cut(closeNotice(s.cause, s.current().Level))
	if errors.Is(s.cause, errClosed) {
		s.relay.Cut(relay.CloseNotice{}) // leaves no time to either side
	}
}

// ended is the relay's Done: both connections are closed.
func (s *session) ended(r relay.Result) {
	defer s.srv.sessions.Done()
	s.unregister()
	client := s.current()
	s.srv.admission.releaseSession(s.ticket, client.Addr.Addr())
	if hook := s.srv.Trace.Closed; hook != nil {
		hook(client, End{
			By: r.By.String(), Err: r.Err, Up: r.Up, Down: r.Down,
			Denied: s.denials(), Duration: time.Since(client.Since),
		})
	}
}

// unregister takes the session out of everything that it was entered in but the
// admission.
func (s *session) unregister() {
	s.stopExpiry()
	s.renewal().end()
	s.srv.rechecks.remove(s)
	s.srv.registry.remove(s)
	if s.release != nil {
		s.release()
	}
}

// expireInTime ends the session when its grant expires, in place of an earlier time. A grant
// that never expires costs nothing.
func (s *session) expireInTime() {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.current().Grant.Expires
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	if !t.IsZero() && !s.over {
		s.expiry = time.AfterFunc(time.Until(t), s.expire)
	}
}

// expire is what the timer of expireInTime does.
func (s *session) expire() {
	defer func() { s.srv.recovered(recover()) }()
	if e := s.current().Grant.Expires; e.IsZero() || time.Now().Before(e) {
		return // a new grant has just taken the place of the one that has expired
	}
	s.cut(ErrExpired)
}

// stopExpiry stops the timer of expireInTime, which does not start again.
func (s *session) stopExpiry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.expiry != nil {
		s.expiry.Stop()
	}
}

// renew applies the answer of a recheck and returns the grant that the session goes on
// with. Only a denial ends the session. Any other error is no answer: the session keeps
// the grant that it has, and so it does if that has changed since the question.
func (s *session) renew(m member, grant *authz.Grant, err error) *authz.Grant {
	old := m.was
	if s.current().TokenHash != m.key {
		return s.current().Grant // the client has renewed its token meanwhile
	}
	if err == nil {
		err = grant.Check(m.request, time.Now())
	}
	switch {
	case errors.Is(err, authz.ErrDenied):
		s.cut(denialCause(err))
		return old.Grant
	case err != nil:
		return old.Grant
	case grant.Subject != old.Grant.Subject:
		// The token belongs to somebody else now.
		s.cut(ErrRevoked)
		return old.Grant
	}
	s.regrant(old, grant)
	return s.current().Grant
}

// regrant makes grant the one that the session goes on with. It reports false, and does nothing,
// if the session is not what it was in old any more.
func (s *session) regrant(old *Client, grant *authz.Grant) bool {
	renewed := *old
	renewed.Grant = grant
	if !s.client.CompareAndSwap(old, &renewed) {
		return false
	}
	s.expireInTime()
	s.follow(old.Grant)
	return true
}

// moved returns the bytes that the session has passed on so far.
func (s *session) moved() (up, down int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay == nil {
		return 0, 0
	}
	return s.relay.Bytes()
}

// activity returns what the session has moved so far. Before the relay starts, for how
// long the session has been idle is not known.
func (s *session) activity() Activity {
	s.mu.Lock()
	started := s.relay
	s.mu.Unlock()
	a := Activity{Idle: -1, Denied: s.denials()}
	if started == nil {
		return a
	}
	a.Holds = started.Holds()
	a.Up, a.Down = started.Bytes()
	if idle, ok := started.Idle(); ok {
		a.Idle = idle
	}
	return a
}

// denied counts and reports what topic rules, topic map and limits do not allow.
func (s *session) denied(d inspect.Denied) {
	s.extras.denied.Add(1)
	if hook := s.srv.Trace.Denied; hook != nil {
		hook(s.current(), Denied(d))
	}
}

// denials returns how often denied was called.
func (s *session) denials() int64 {
	if s.extras == nil {
		return 0
	}
	return s.extras.denied.Load()
}
