package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// registry knows every session, every connection whose token is being checked,
// and who owns which client id.
type registry struct {
	mu       sync.Mutex
	lastID   uint64
	sessions map[uint64]*session
	subjects map[string]*session // the newest of each; see session.older
	checks   map[*check]struct{}
	owners   map[string]owner
	up, down int64 // bytes that ended sessions have passed on
}

// check is a token check in flight. It collects the kicks that came meanwhile:
// the answer that is on its way may already be wrong.
type check struct {
	kicks []func(*Client) bool
}

// owner is who uses a client id, and in how many sessions: during a takeover
// both the old and the new one are alive.
type owner struct {
	subject  string
	sessions int
}

// session is a connection whose token is good.
type session struct {
	mu     sync.Mutex
	client *Client
	relay  *relay.Session          // nil until the bytes flow
	cause  error                   // set once it has been cut
	over   bool                    // nothing may be armed any more
	abort  context.CancelCauseFunc // ends dialing; nil once the bytes flow
	expiry *time.Timer

	release   func() // gives its place at the broker back; set before the bytes flow
	rechecked bool   // it is asked about again; set before the bytes flow
	// Guarded by the registry:
	owns         string   // the client id it has claimed
	newer, older *session // of the same subject
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

// admit ends the check and makes the client a session, unless a kick that came
// during the check meant it.
func (r *registry) admit(c *check, s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checks, c)
	for _, match := range c.kicks {
		if match(s.client) {
			return false
		}
	}
	if r.sessions == nil {
		r.sessions, r.subjects = make(map[uint64]*session), make(map[string]*session)
	}
	r.lastID++
	s.client.ID = r.lastID
	r.sessions[s.client.ID] = s
	r.link(s)
	return true
}

// link makes s the newest session of its subject.
func (r *registry) link(s *session) {
	subject := s.client.Subject()
	s.older = r.subjects[subject]
	if s.older != nil {
		s.older.newer = s
	}
	r.subjects[subject] = s
}

// unlink takes s out of the sessions of its subject.
func (r *registry) unlink(s *session, subject string) {
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
// s included in the count. A session with the client id of s does not count: the
// broker ends it in favour of s.
func (r *registry) beyond(s *session, limit int) (excess []*session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 1
	for o := s.older; o != nil; o = o.older {
		if o.current().ClientID == s.client.ClientID {
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
	o, used := r.owners[id]
	subject := s.client.Subject()
	if used && o.subject != subject {
		return false
	}
	if r.owners == nil {
		r.owners = make(map[string]owner)
	}
	r.owners[id] = owner{subject: subject, sessions: o.sessions + 1}
	s.owns = id
	return true
}

// remove forgets a session and gives its client id back.
func (r *registry) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := s.current()
	if _, known := r.sessions[c.ID]; !known {
		return
	}
	delete(r.sessions, c.ID)
	up, down := s.moved()
	r.up, r.down = r.up+up, r.down+down
	r.unlink(s, c.Subject())
	if s.owns == "" {
		return
	}
	if o := r.owners[s.owns]; o.sessions > 1 {
		r.owners[s.owns] = owner{subject: o.subject, sessions: o.sessions - 1}
	} else {
		delete(r.owners, s.owns)
	}
}

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

// clients returns a snapshot of every session's client.
func (r *registry) clients() []*Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Client, 0, len(r.sessions))
	for _, s := range r.sessions {
		all = append(all, s.current())
	}
	return all
}
