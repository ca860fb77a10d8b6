package proxy

import (
	"context"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Watch ends the sessions whose tokens n reports as revoked, with [ErrRevoked], and has
// connections whose token is being checked at that moment checked again. Every
// Authorizer that is an [authz.Notifier] must be watched: without that, sessions outlive
// their tokens.
//
// Watch may be called from any goroutine, also before Serve. It returns nil when ctx is
// done or the server is closed, otherwise why n can no longer watch. The sessions
// of everything that was reported have been cut by then. A panic of n reaches the caller after
// that. The caller may recover and call Watch again, because a Notifier also reports what was
// withdrawn before the call.
func (s *Server) Watch(ctx context.Context, n authz.Notifier) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.baseContext(), cancel)()
	reported, done := newRevocations(), make(chan struct{})
	go func() {
		defer close(done)
		reported.deliver(s.revoke)
	}()
	defer func() { // also if Notify panics
		reported.close()
		<-done
	}()
	return n.Notify(ctx, reported.add)
}

// revoke ends the sessions that the revocations mean, or gives them their new grants.
func (s *Server) revoke(all []authz.Revocation) {
	defer func() { s.recovered(recover()) }()
	all = s.alter(all)
	if len(all) == 0 {
		return
	}
	meant := make(map[authz.Revocation]bool, len(all))
	for _, r := range all {
		meant[r] = true
	}
	delete(meant, authz.Revocation{}) // names nothing, and would match every grant without a token id
	n := s.Kick(func(c *Client) bool {
		return meant[authz.Revocation{TokenID: c.Grant.TokenID}] ||
			meant[authz.Revocation{Subject: c.Grant.Subject}] ||
			meant[authz.Revocation{TokenHash: c.TokenHash}]
	}, ErrRevoked)
	if hook := s.Trace.Revoked; hook != nil {
		hook(all, n)
	}
}

// alter gives sessions the new grants of their tokens, and returns the revocations that have
// none. A grant of another source for the same token, which has another id or subject, is left
// alone.
func (s *Server) alter(all []authz.Revocation) (rest []authz.Revocation) {
	grants := make(map[[32]byte]*authz.Grant)
	for _, r := range all {
		if r.Grant != nil {
			grants[r.TokenHash] = r.Grant
		} else {
			rest = append(rest, r)
		}
	}
	if len(grants) == 0 {
		return rest
	}
	altered := func(c *Client) bool {
		g := grants[c.TokenHash]
		return g != nil && g.TokenID == c.Grant.TokenID && g.Subject == c.Grant.Subject
	}
	for _, found := range s.registry.matching(altered) {
		for c := found.current(); altered(c) && !found.regrant(c, grants[c.TokenHash]); {
			c = found.current()
		}
	}
	return rest
}

// revocations are those that a Notifier has reported and whose sessions have yet to end.
// Each search for sessions looks at all sessions, so the revocations that are reported
// during one search wait for the next one together: if a whole fleet is withdrawn, that
// takes two searches.
type revocations struct {
	mu      sync.Mutex
	waiting []authz.Revocation
	ready   chan struct{} // holds one element if some may be waiting
}

func newRevocations() *revocations { return &revocations{ready: make(chan struct{}, 1)} }

// add is called by the Notifier, and not after close.
func (q *revocations) add(r authz.Revocation) {
	q.mu.Lock()
	q.waiting = append(q.waiting, r)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// close makes deliver return once nothing is waiting.
func (q *revocations) close() { close(q.ready) }

// deliver calls revoke with what is waiting, until close.
func (q *revocations) deliver(revoke func([]authz.Revocation)) {
	for range q.ready {
		q.mu.Lock()
		all := q.waiting
		q.waiting = nil
		q.mu.Unlock()
		if len(all) > 0 {
			revoke(all)
		}
	}
}
