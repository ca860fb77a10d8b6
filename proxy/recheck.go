package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// rechecks asks the Authorizer again about the tokens of live sessions. Sessions with the
// same token form a group, which has one timer. The policy that is in force at the time of a
// recheck decides who is asked, and when the next recheck is. Sessions that need no recheck
// when they begin cost nothing.
type rechecks struct {
	mu     sync.Mutex
	groups map[[32]byte]*recheckGroup // by the digest of the token
	asking sync.WaitGroup
	closed bool

	wanted uint64        // how often Recheck was called
	within time.Duration // of the last call
}

// recheckGroup is the sessions of one token. It is guarded by rechecks.mu.
type recheckGroup struct {
	members map[*session]authz.Request
	timer   *time.Timer
	soon    bool // Recheck has set the timer, and a round that is under way must not move it
}

// interval returns the time between two rechecks of a grant; 0 means that there are none.
func (p *Policy) interval(g *authz.Grant) time.Duration {
	if g.Recheck > 0 {
		return g.Recheck
	}
	return p.Recheck
}

// add adds the session of c, if its grant or the policy wants rechecks.
func (r *rechecks) add(c *conn) {
	if c.srv.policy.Load().interval(c.login.client.Grant) <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.join(c.login.session, c.request())
}

// renewed moves a session to the group of its new token. request has that, and old is the
// digest of the one before.
func (r *rechecks) renewed(s *session, old [32]byte, request authz.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(s, old)
	if !s.renewal().gone {
		r.join(s, request)
	}
}

// join adds a session to the group of its token, if the grant or the policy wants rechecks. r.mu
// is held.
func (r *rechecks) join(s *session, request authz.Request) {
	client := s.current()
	every := s.srv.policy.Load().interval(client.Grant)
	if every <= 0 || r.closed {
		return
	}
	request.Purpose = authz.Recheck
	key := client.TokenHash
	g := r.groups[key]
	if g == nil {
		if r.groups == nil {
			r.groups = make(map[[32]byte]*recheckGroup)
		}
		g = &recheckGroup{members: make(map[*session]authz.Request)}
		r.groups[key] = g
		g.timer = time.AfterFunc(jittered(every), func() { r.ask(s.srv, key, g) })
	}
	g.members[s] = request
	s.rechecked = true
	if s.rechecks != r.wanted { // the answer of the Authorizer is older than the call
		s.rechecks = r.wanted
		r.hasten(g)
	}
}

// Recheck asks the Authorizer again about every live session that is rechecked at all,
// spread over the time within. It is for changes that no Notifier reports, such as another
// policy. A connection whose token is being checked during the call, or that has yet to reach
// the broker, is asked about when it has become a session.
func (s *Server) Recheck(within time.Duration) {
	s.rechecks.mu.Lock()
	defer s.rechecks.mu.Unlock()
	if s.rechecks.closed {
		return
	}
	s.rechecks.wanted++
	s.rechecks.within = max(within, 1)
	for _, g := range s.rechecks.groups {
		s.rechecks.hasten(g)
	}
}

// hasten has a group rechecked within the time of the last call of Recheck. r.mu is held.
func (r *rechecks) hasten(g *recheckGroup) {
	g.soon = true
	g.timer.Reset(rand.N(r.within))
}

// count returns how often Recheck was called.
func (r *rechecks) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted
}

// jittered returns d less up to a tenth of it, so that sessions that began at the same time
// are not rechecked at the same time again and again.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// remove removes a session that has ended from its group.
func (r *rechecks) remove(s *session) {
	renewal := s.renewal()
	if renewal == nil && !s.rechecked {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if renewal != nil {
		renewal.gone = true
	}
	r.leave(s, s.current().TokenHash)
}

// leave removes a session from a group, if it is in that. r.mu is held.
func (r *rechecks) leave(s *session, key [32]byte) {
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

// ask rechecks a group. Sessions with equal requests share one question, because an answer
// about one client id or address says nothing about another. If the source looks at less
// than that, a cache in front of it answers the other questions.
func (r *rechecks) ask(srv *Server, key [32]byte, g *recheckGroup) {
	round := r.startRound(key, g)
	if round == nil {
		return
	}
	defer r.asking.Done()
	policy := srv.policy.Load()
	every := time.Duration(0) // the shortest interval of any session
	unanswered := false
	defer func() {
		if srv.recovered(recover()) {
			every = afterFault
		} else if unanswered {
			every = min(every, afterFault)
		}
		r.schedule(key, g, every)
	}()
	for _, same := range round {
		for i := range same {
			same[i].was = same[i].session.current()
		}
		grant, err := srv.askAgain(srv.baseContext(), policy, same[0].request)
		unanswered = unanswered || err != nil && !errors.Is(err, authz.ErrDenied)
		for _, m := range same {
			if d := policy.interval(m.renew(grant, err)); d > 0 && (every == 0 || d < every) {
				every = d
			}
		}
	}
}

// afterFault is the longest time to the next recheck of a group if a recheck could not be
// completed because of a panic, or of a source that gave no answer: a change that the recheck was
// to find must not wait for the interval.
const afterFault = time.Minute

// schedule sets the time of the next recheck of a group, unless every is 0.
func (r *rechecks) schedule(key [32]byte, g *recheckGroup, every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if every > 0 && !r.closed && r.groups[key] == g && !g.soon {
		g.timer.Reset(jittered(every))
	}
}

// member is a session, the request with which it connected, and what it was when that was asked
// again.
type member struct {
	session *session
	request authz.Request
	was     *Client
	key     [32]byte // of the group
}

// renew is session.renew. A panic ends the session, so that the others are still
// rechecked.
func (m member) renew(grant *authz.Grant, err error) (g *authz.Grant) {
	s := m.session
	defer func() {
		if s.srv.recovered(recover()) {
			s.cut(relay.ErrPanic)
			g = s.current().Grant
		}
	}()
	return s.renew(m, grant, err)
}

// startRound returns the members of a group for one recheck, by their requests, or nil if
// the group is no longer there. The caller must call r.asking.Done after the recheck.
func (r *rechecks) startRound(key [32]byte, g *recheckGroup) map[recheckKey][]member {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.groups[key] != g {
		return nil
	}
	r.asking.Add(1)
	g.soon = false
	round := make(map[recheckKey][]member)
	for s, request := range g.members {
		what := recheckKeyOf(request)
		round[what] = append(round[what], member{session: s, request: request, key: key})
	}
	return round
}

// askAgain asks the Authorizer about a live session. A panic is an error, not a denial.
func (s *Server) askAgain(ctx context.Context, p *installed, r authz.Request) (grant *authz.Grant, err error) {
	defer func() {
		if s.recovered(recover()) {
			err = relay.ErrPanic
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, p.connectTimeout())
	defer cancel()
	return p.Authorizer.Authorize(ctx, r)
}

// recheckKey is everything in a request that an answer may depend on, besides the token.
type recheckKey struct {
	clientID, username, listener, certificate string
	password, pair                            [32]byte
	addr                                      netip.Addr
	protocol                                  byte
}

func recheckKeyOf(r authz.Request) recheckKey {
	s := recheckKey{
		clientID: r.ClientID, username: r.Username, listener: r.Listener,
		password: r.Password.Hash(), pair: authz.PairHash(r.Pair.Username, r.Pair.Password.Reveal()), addr: r.Addr.Addr(), protocol: r.Protocol,
	}
	if r.Peer != nil {
		s.certificate = string(r.Peer.Raw)
	}
	return s
}

// close ends the rechecks and waits for those that are running. The end of the server's base
// context makes them return.
func (r *rechecks) close() {
	r.mu.Lock()
	r.closed = true
	for _, g := range r.groups {
		g.timer.Stop()
	}
	r.mu.Unlock()
	r.asking.Wait()
}
