package proxy

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// rechecks asks again for live sessions. Sessions that came with the same token
// form a group, which has one timer. Who is asked, and how often, is up to the policy
// that is in force at that time. Sessions whose grant is not to be asked again when
// they begin cost nothing.
type rechecks struct {
	mu     sync.Mutex
	groups map[[32]byte]*recheckGroup // by the token's digest
	asking sync.WaitGroup
	closed bool
}

// recheckGroup is the sessions of one token. Everything is guarded by
// rechecks.mu.
type recheckGroup struct {
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

// add makes the session of c one that is asked again, if its grant says so.
func (r *rechecks) add(c *conn) {
	every := c.srv.policy.Load().interval(c.login.client.Grant)
	if every <= 0 {
		return
	}
	request := c.request()
	request.Purpose = authz.Recheck
	key := c.login.client.TokenHash
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	g := r.groups[key]
	if g == nil {
		if r.groups == nil {
			r.groups = make(map[[32]byte]*recheckGroup)
		}
		g = &recheckGroup{members: make(map[*session]authz.Request)}
		r.groups[key] = g
		g.timer = time.AfterFunc(jittered(every), func() { r.ask(c.srv, key, g) })
	}
	g.members[c.login.session] = request
	c.login.session.rechecked = true
}

// Recheck asks the Authorizer again about every live session that is asked about at
// all, spread over the given time. It is for changes of which the Authorizer tells
// nothing by itself, such as another policy.
func (s *Server) Recheck(within time.Duration) {
	s.rechecks.mu.Lock()
	defer s.rechecks.mu.Unlock()
	if s.rechecks.closed {
		return
	}
	for _, g := range s.rechecks.groups {
		g.timer.Reset(rand.N(max(within, 1)))
	}
}

// jittered takes up to a tenth off d, so that the sessions of a storm do not ask
// in step for ever after.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// remove takes a session that has ended out of its group.
func (r *rechecks) remove(s *session) {
	if !s.rechecked {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := s.current().TokenHash
	g := r.groups[key]
	if g == nil {
		return
	}
	delete(g.members, s)
	if len(g.members) == 0 {
		g.timer.Stop()
		delete(r.groups, key)
	}
}

// ask is one round of a group. Sessions that said the same share one question; an
// answer about one client id or address says nothing about another. Where the source
// looks at less than that, a cache before it gives them all the same answer.
func (r *rechecks) ask(srv *Server, key [32]byte, g *recheckGroup) {
	round := r.startRound(key, g)
	if round == nil {
		return
	}
	defer r.asking.Done()
	policy := srv.policy.Load()
	every := time.Duration(0) // the shortest that any of them asks for
	defer func() { r.schedule(key, g, every) }()
	for _, same := range round {
		grant, err := srv.askAgain(policy, same[0].request)
		for _, m := range same {
			if d := policy.interval(m.renew(grant, err)); d > 0 && (every == 0 || d < every) {
				every = d
			}
		}
	}
}

// again sets the time of a group's next round, unless every is 0.
func (r *rechecks) schedule(key [32]byte, g *recheckGroup, every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if every > 0 && !r.closed && r.groups[key] == g {
		g.timer.Reset(jittered(every))
	}
}

// member is a session and what it said when it connected.
type member struct {
	session *session
	request authz.Request
}

// renew is session.renew. A panic ends the session, so that the others are still asked
// about.
func (m member) renew(grant *authz.Grant, err error) (g *authz.Grant) {
	s := m.session
	defer func() {
		if s.srv.recovered(recover()) {
			s.cut(relay.ErrPanic)
			g = s.current().Grant
		}
	}()
	return s.renew(m.request, grant, err)
}

// begin returns the group's members for one round, those together that said the
// same, or nil if the group is over. A round that has begun must be ended with
// r.asking.Done.
func (r *rechecks) startRound(key [32]byte, g *recheckGroup) map[recheckKey][]member {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.groups[key] != g {
		return nil
	}
	r.asking.Add(1)
	round := make(map[recheckKey][]member)
	for s, request := range g.members {
		what := recheckKeyOf(request)
		round[what] = append(round[what], member{s, request})
	}
	return round
}

// askAgain asks the Authorizer about a live session. A panic is no answer.
func (s *Server) askAgain(p *installed, r authz.Request) (grant *authz.Grant, err error) {
	defer func() {
		if s.recovered(recover()) {
			err = relay.ErrPanic
		}
	}()
	ctx, cancel := context.WithTimeout(s.baseContext(), p.connectTimeout())
	defer cancel()
	return p.Authorizer.Authorize(ctx, r)
}

// said is all of a request that an answer may depend on, beside the token.
type recheckKey struct {
	clientID, username, listener, certificate string
	password                                  [32]byte
	addr                                      netip.Addr
	protocol                                  byte
}

func recheckKeyOf(r authz.Request) recheckKey {
	s := recheckKey{
		clientID: r.ClientID, username: r.Username, listener: r.Listener,
		password: r.Password.Hash(), addr: r.Addr.Addr(), protocol: r.Protocol,
	}
	if r.Peer != nil {
		s.certificate = string(r.Peer.Raw)
	}
	return s
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
