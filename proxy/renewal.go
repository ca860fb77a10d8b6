package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// renewal is what a session needs whose client may renew its token by AUTH (MQTT 5.0 section
// 4.12.1), because the token was the authentication data of its CONNECT.
type renewal struct {
	method  string
	request authz.Request // of the CONNECT, without token
	gone    bool          // the session has left the rechecks; guarded by rechecks.mu

	mu     sync.Mutex         // guards what follows
	cancel context.CancelFunc // ends the question that is under way; nil without one
	ended  bool               // so has the session
	pace   bucket.Bucket      // of the questions
}

// renewalRate is how often a session may ask about a new token. An AUTH beyond that is answered
// later, and another one meanwhile ends the session, so a client cannot flood a source.
func renewalRate() bucket.Rate { return bucket.PerSecond(1, 10) }

// newRenewal returns nil if the client cannot renew its token.
func (c *conn) newRenewal() *renewal {
	if c.login.location.place != authData {
		return nil
	}
	method, _ := c.login.connect.Properties.AuthenticationMethod()
	r := &renewal{method: method, request: c.request()}
	// The fields of a CONNECT are parts of one text, which may be large.
	r.request.Username = strings.Clone(r.request.Username)
	if !r.request.Password.IsZero() {
		r.request.Password = authz.NewToken(strings.Clone(r.request.Password.Reveal()))
	}
	r.request.Token = authz.Token{}
	r.request.Pair = authz.Pair{} // with it, a wrong token would be no fault
	return r
}

// renewal returns nil if the client cannot renew its token.
func (s *session) renewal() *renewal {
	if s.extras == nil {
		return nil
	}
	return s.extras.renewal
}

// inspection returns what the filter of the session needs for the renewal, nil if it is nil.
func (r *renewal) inspection(s *session) *inspect.Renewal {
	if r == nil {
		return nil
	}
	return &inspect.Renewal{Method: r.method, Renew: func(token []byte) bool {
		ctx, ok := r.begin(s.srv.baseContext())
		if ok {
			s.srv.sessions.Add(1) // the session itself counts, so nothing waits for 0 yet
			go s.renewToken(ctx, authz.NewToken(string(token)))
		}
		return ok
	}}
}

// begin returns the context of a question, or false if there is one already.
func (r *renewal) begin(base context.Context) (context.Context, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil || r.ended {
		return nil, false
	}
	ctx, cancel := context.WithCancel(base)
	r.cancel = cancel
	return ctx, true
}

// finish is called once at the end of each question.
func (r *renewal) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel()
	r.cancel = nil
}

// end is called at the end of the session.
func (r *renewal) end() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.cancel != nil {
		r.cancel()
	}
}

// wait waits until the session may ask. It returns the error of ctx if that ends before.
func (r *renewal) wait(ctx context.Context) error {
	for !r.take() {
		timer := time.NewTimer(renewalRate().Interval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
	return nil
}

func (r *renewal) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pace.Take(time.Now(), renewalRate())
}

// renewToken asks about a new token, and answers the client or ends the session.
func (s *session) renewToken(ctx context.Context, token authz.Token) {
	defer s.srv.sessions.Done()
	defer func() {
		if s.srv.recovered(recover()) {
			s.cut(relay.ErrPanic)
		}
	}()
	switch over, err := s.question(ctx, token); {
	case err == nil:
		// The answer is shorter than the CONNACK, which had the method as well, so it is within
		// the client's Maximum Packet Size.
		answer := packets.Auth{Properties: packets.Properties(nil).With(packets.AuthenticationMethod, s.renewal().method)}
		if hook := s.srv.Trace.Renewed; hook != nil {
			hook(s.current())
		}
		s.relayed().Send(answer.Append(nil, 5))
	case over:
	case errors.Is(err, authz.ErrDenied):
		s.cut(fmt.Errorf("%w: %w", ErrRenewalDenied, err))
	default:
		s.cut(fmt.Errorf("%w: %w", ErrRenewalFailed, err))
	}
}

// question is askForToken, after which the next question may begin: the client may send another
// AUTH as soon as it reads the answer. It reports whether the session or the server has ended
// meanwhile.
func (s *session) question(ctx context.Context, token authz.Token) (over bool, err error) {
	defer s.renewal().finish()
	err = s.askForToken(ctx, token)
	return ctx.Err() != nil, err
}

// askForToken puts a new token and its grant in the place of those in force. As for a CONNECT,
// a revocation that comes meanwhile counts.
func (s *session) askForToken(ctx context.Context, token authz.Token) error {
	r := s.renewal()
	if err := r.wait(ctx); err != nil {
		return err
	}
	if strings.HasPrefix(token.Reveal(), certificatePrefix) {
		return &authz.Denial{Reason: authz.Unknown, Detail: "it is a certificate's"}
	}
	request := r.request
	request.Token = token
	for range maxChecks {
		check := s.srv.registry.beginCheck()
		grant, err := s.srv.askAgain(ctx, s.srv.policy.Load(), request)
		if err == nil {
			err = grant.Check(request, time.Now())
		}
		if err == nil && (grant.IsPair() || grant.Subject != s.current().Subject()) {
			err = &authz.Denial{Reason: authz.NotAuthorized, Detail: "the new token belongs to another subject"}
		}
		if err != nil {
			s.srv.registry.endCheck(check)
			return err
		}
		if old := s.srv.registry.renew(check, s, token.Hash(), grant); old != nil {
			s.srv.rechecks.renewed(s, old.TokenHash, request)
			s.expireInTime()
			s.follow(old.Grant)
			return nil
		}
	}
	return &authz.Denial{Reason: authz.Revoked, Detail: "withdrawn while it was being checked"}
}

// relayed returns the relay's session, which has been started.
func (s *session) relayed() *relay.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.relay
}
