package proxy

import (
	"slices"
	"strings"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// registry has all sessions, all connections whose token is being checked, and the owners
// of the client ids that sessions use at the broker.
type registry struct {
	mu       sync.Mutex
	lastID   uint64
	sessions []*session          // in no order, see session.place
	subjects map[string]*session // the newest session of each, see session.older
	checks   map[*check]struct{}
	owners   map[string]*session // the last session that has claimed the id, see session.earlier
	up, down int64               // bytes that ended sessions have passed on
}

// check is the check of a token that is under way. It collects the kicks that come
// meanwhile, because the answer may be outdated when it arrives.
type check struct {
	kicks []func(*Client) bool
}

// beginCheck adds a check, which register or endCheck must end.
func (r *registry) beginCheck() *check {
	c := &check{}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.checks == nil {
		r.checks = make(map[*check]struct{})
	}
	r.checks[c] = struct{}{}
	return c
}

// endCheck ends a check from which no session results.
func (r *registry) endCheck(c *check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checks, c)
}

// register ends the check and adds the session s. It reports false, and adds nothing, if a
// kick that came during the check applies to s.
func (r *registry) register(c *check, s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checks, c)
	for _, match := range c.kicks {
		if match(s.current()) {
			return false
		}
	}
	if r.subjects == nil {
		r.subjects = make(map[string]*session)
	}
	r.lastID++
	s.current().ID = r.lastID
	r.sessions = append(r.sessions, s)
	s.place = int32(len(r.sessions))
	r.addToSubject(s)
	return true
}

// renew ends the check and makes the token with that digest and the grant g those of s. It
// returns what s was before, or nil, and changes nothing, if a kick that came during the check
// applies to what s would be.
func (r *registry) renew(c *check, s *session, hash [32]byte, g *authz.Grant) (old *Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checks, c)
	for {
		old = s.current()
		next := *old
		next.TokenHash, next.Grant = hash, g
		for _, match := range c.kicks {
			if match(&next) {
				return nil
			}
		}
		if s.client.CompareAndSwap(old, &next) {
			return old
		}
	}
}

// addToSubject makes s the newest session of its subject. r.mu is held.
func (r *registry) addToSubject(s *session) {
	subject := s.current().Subject()
	s.older = r.subjects[subject]
	if s.older != nil {
		s.older.newer = s
	}
	r.subjects[subject] = s
}

// removeFromSubject removes s from the sessions of its subject. r.mu is held.
func (r *registry) removeFromSubject(s *session, subject string) {
	if s.older != nil {
		s.older.newer = s.newer
	}
	switch {
	case s.newer != nil:
		s.newer.older = s.older
	case s.older != nil:
		r.subjects[subject] = s.older
	default:
		delete(r.subjects, subject)
	}
	s.newer, s.older = nil, nil
}

// excessOf returns the sessions older than s that its subject has beyond the limit, which
// includes s. A session with the client id of s does not count, because the broker ends it
// in favour of s.
func (r *registry) excessOf(s *session, limit int) (excess []*session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 1
	for o := s.older; o != nil; o = o.older {
		if s.owns != "" && o.owns == s.owns {
			continue
		}
		if n++; n > limit {
			excess = append(excess, o)
		}
	}
	return excess
}

// claim records that s uses the client id at the broker. It reports false if a session of
// another subject uses that.
func (r *registry) claim(s *session, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.owners[id]
	if o != nil && o.current().Subject() != s.current().Subject() {
		return false
	}
	if r.owners == nil {
		r.owners = make(map[string]*session)
	}
	// id may be a part of a CONNECT, and holding on to it would keep the whole packet in
	// memory, the password included. Most sessions have a text of their own that is equal.
	owned := s.current().ClientID
	if owned != id {
		owned = strings.Clone(id)
	}
	r.owners[owned], s.owns, s.earlier = s, owned, o
	return true
}

// disclaim undoes claim. During a takeover the old and the new session have claimed the same
// client id. r.mu is held.
func (r *registry) disclaim(s *session) {
	if s.owns == "" {
		return
	}
	o := r.owners[s.owns]
	switch {
	case o != s:
		for o.earlier != s {
			o = o.earlier
		}
		o.earlier = s.earlier
	case s.earlier != nil:
		r.owners[s.owns] = s.earlier
	default:
		delete(r.owners, s.owns)
	}
	s.owns, s.earlier = "", nil
}

// remove removes a session that was registered. It may be called more than once.
func (r *registry) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.place == 0 {
		return
	}
	r.removeFromList(s)
	up, down := s.moved()
	r.up, r.down = r.up+up, r.down+down
	r.removeFromSubject(s, s.current().Subject())
	r.disclaim(s)
}

// removeFromList removes s from r.sessions. The last session takes its place. r.mu is held.
func (r *registry) removeFromList(s *session) {
	last := len(r.sessions) - 1
	moved := r.sessions[last]
	r.sessions[s.place-1], moved.place = moved, s.place
	r.sessions[last], s.place = nil, 0
	r.sessions = r.sessions[:last]
	if cap(r.sessions) > smallRegistry && last < cap(r.sessions)/4 {
		r.sessions = slices.Clone(r.sessions) // frees the memory
	}
}

// smallRegistry is the number of sessions up to which no memory is freed.
const smallRegistry = 1024

// matching returns the sessions that match, and adds match to the kicks of all checks.
func (r *registry) matching(match func(*Client) bool) []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.checks {
		c.kicks = append(c.kicks, match)
	}
	var found []*session
	for _, s := range r.sessions {
		if match(s.current()) {
			found = append(found, s)
		}
	}
	return found
}

// all returns the sessions as they are now.
func (r *registry) all() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sessions)
}
