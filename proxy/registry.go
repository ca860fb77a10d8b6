package proxy

import (
	"slices"
	"strings"
	"sync"
)

// registry knows every session, every connection whose token is being checked,
// and who owns which client id.
type registry struct {
	mu       sync.Mutex
	lastID   uint64
	sessions []*session          // in no order; see session.place
	subjects map[string]*session // the newest of each; see session.older
	checks   map[*check]struct{}
	owners   map[string]*session // the last that has claimed the id; see session.earlier
	up, down int64               // bytes that ended sessions have passed on
}

// check is a token check in flight. It collects the kicks that came meanwhile:
// the answer that is on its way may already be wrong.
type check struct {
	kicks []func(*Client) bool
}

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

// endCheck ends a check without a session.
func (r *registry) endCheck(c *check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checks, c)
}

// register ends the check and makes the client a session, unless a kick that came
// during the check meant it.
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

// link makes s the newest session of its subject.
func (r *registry) addToSubject(s *session) {
	subject := s.current().Subject()
	s.older = r.subjects[subject]
	if s.older != nil {
		s.older.newer = s
	}
	r.subjects[subject] = s
}

// unlink takes s out of the sessions of its subject.
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

// beyond returns the sessions older than s that its subject has beyond limit,
// s included in the count. A session to which the broker gives the client id of s does
// not count: the broker ends it in favour of s.
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

// claim takes the client id for the session's subject. It fails while another
// subject has a session with it.
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

// disclaim gives the client id of s back. During a takeover both the old and the new
// session are alive.
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

// remove forgets a session and gives its client id back.
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

// vacate takes s out of the sessions. The last one takes its place.
func (r *registry) removeFromList(s *session) {
	last := len(r.sessions) - 1
	moved := r.sessions[last]
	r.sessions[s.place-1], moved.place = moved, s.place
	r.sessions[last], s.place = nil, 0
	r.sessions = r.sessions[:last]
	if cap(r.sessions) > smallRegistry && last < cap(r.sessions)/4 {
		r.sessions = slices.Clone(r.sessions) // after a storm
	}
}

// smallRegistry is a number of sessions whose places are not worth giving back.
const smallRegistry = 1024

// matching returns the sessions that match means, and makes every check in
// flight remember it.
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

// all returns a snapshot of the sessions.
func (r *registry) all() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sessions)
}
