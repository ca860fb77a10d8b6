package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// rechecks asks again for live sessions. Sessions that came with the same token
// by the same policy form a group, which costs one question an interval however
// many they are. Sessions whose grant is not to be asked again cost nothing.
type rechecks struct {
	mu     sync.Mutex
	groups map[recheckKey]*recheckGroup
	asking sync.WaitGroup
	closed bool
}

type recheckKey struct {
	token  [32]byte
	policy *installed
}

// recheckGroup is the sessions of one token. Everything is guarded by
// rechecks.mu.
type recheckGroup struct {
	request authz.Request
	members map[*session]authz.Request
	timer   *time.Timer
}

// interval returns how long a grant may stand before it is asked again, 0 for
// ever.
func (p *Policy) interval(g *authz.Grant) time.Duration {
	if g.Recheck > 0 {
		return g.Recheck
	}
	return p.Recheck
}

// join makes the session of c one that is asked again, if its grant says so.
func (r *rechecks) join(c *conn, request authz.Request) {
	every := c.policy.interval(c.client.Grant)
	if every <= 0 {
		return
	}
	request.Purpose = authz.Recheck
	key := recheckKey{c.client.TokenHash, c.policy}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	g := r.groups[key]
	if g == nil {
		if r.groups == nil {
			r.groups = make(map[recheckKey]*recheckGroup)
		}
		g = &recheckGroup{request: request, members: make(map[*session]authz.Request)}
		r.groups[key] = g
		g.timer = time.AfterFunc(jittered(every), func() { r.ask(c.srv, key, g) })
	}
	g.members[c.session] = request
	c.session.recheck = key
}

// jittered takes up to a tenth off d, so that the sessions of a storm do not ask
// in step for ever after.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// leave takes an ended session out of its group.
func (r *rechecks) leave(s *session) {
	if s.recheck.policy == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[s.recheck]
	if g == nil {
		return
	}
	delete(g.members, s)
	if len(g.members) == 0 {
		g.timer.Stop()
		delete(r.groups, s.recheck)
	}
}

// ask is one round of a group.
func (r *rechecks) ask(srv *Server, key recheckKey, g *recheckGroup) {
	r.mu.Lock()
	if r.closed || r.groups[key] != g {
		r.mu.Unlock()
		return
	}
	r.asking.Add(1)
	r.mu.Unlock()
	defer r.asking.Done()

	ctx, cancel := context.WithTimeout(srv.life(), key.policy.connectTimeout())
	defer cancel()
	grant, err := key.policy.Authorizer.Authorize(ctx, g.request)

	r.mu.Lock()
	members := make(map[*session]authz.Request, len(g.members))
	for s, request := range g.members {
		members[s] = request
	}
	r.mu.Unlock()
	every := time.Duration(0)
	for s, request := range members {
		every = key.policy.interval(s.renew(request, grant, err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if every > 0 && !r.closed && r.groups[key] == g {
		g.timer.Reset(jittered(every))
	}
}

// close ends all asking and waits for it. Canceling the server's life ends what
// is under way.
func (r *rechecks) close() {
	r.mu.Lock()
	r.closed = true
	for _, g := range r.groups {
		g.timer.Stop()
	}
	r.mu.Unlock()
	r.asking.Wait()
}

// renew applies the answer to a live session and returns the grant it goes on
// with. Only a decision ends it: whoever could not tell has not said no.
func (s *session) renew(request authz.Request, grant *authz.Grant, err error) *authz.Grant {
	old := s.current()
	if err == nil {
		err = grant.Check(request, time.Now())
	}
	switch {
	case errors.Is(err, authz.ErrDenied):
		s.cut(denialCause(err))
		return old.Grant
	case err != nil:
		return old.Grant
	case grant.Subject != old.Grant.Subject:
		// The token has changed hands.
		s.cut(ErrRevoked)
		return old.Grant
	case !grant.ACL.Equal(old.Grant.ACL):
		// The filter of a session is made when it begins. The device gets its new
		// rights by connecting again.
		s.cut(ErrKicked)
		return old.Grant
	}
	renewed := *old
	renewed.Grant = grant
	s.publish(&renewed)
	s.expireAt(grant.Expires)
	return grant
}

// denialCause returns why a session ends whose grant is denied now.
func denialCause(err error) error {
	var d *authz.Denial
	if errors.As(err, &d) && d.Reason == authz.Expired {
		return ErrExpired
	}
	return ErrRevoked
}
