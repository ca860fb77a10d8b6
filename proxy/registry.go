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
	checks   map[*check]struct{}
	owners   map[string]owner
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
	abort  context.CancelCauseFunc // ends dialing; nil once the bytes flow
	expiry *time.Timer
	owns   string // the client id it has claimed; guarded by the registry
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
		r.sessions = make(map[uint64]*session)
	}
	r.lastID++
	s.client.ID = r.lastID
	r.sessions[s.client.ID] = s
	return true
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
	delete(r.sessions, s.current().ID)
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

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}
