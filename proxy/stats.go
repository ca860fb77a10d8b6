package proxy

import (
	"slices"
	"time"
)

// Stats is what a [Server] does just now and has done since its beginning.
type Stats struct {
	Connections int // accepted and not yet closed, sessions included
	Pending     int // of those, without a CONNECT, or refused and not yet closed
	Sessions    int // with a good token
	// Up and Down are the bytes passed to the broker and to clients after CONNECT
	// and CONNACK, those of live sessions included. They never go back.
	Up, Down int64
	// Of the sessions whose bytes flow, Quiet ones wait in an event loop and Busy
	// ones have goroutines. Escalations is how often one went from there to here.
	Quiet, Busy int
	Escalations int64
}

// Stats may be called from any goroutine. It takes time in proportion to the
// number of sessions, some 10 ms for 100,000.
func (s *Server) Stats() Stats {
	var st Stats
	st.Connections, st.Pending = s.admission.connections()
	st.Sessions, st.Up, st.Down = s.registry.moved()
	p := s.pump.Stats()
	st.Quiet, st.Busy, st.Escalations = p.Quiet, p.Busy, p.Escalations
	return st
}

// moved returns the number of live sessions and the bytes that all sessions have
// passed on, now or in their time. A session that ends meanwhile is counted once,
// among the live ones: which those are is decided under the lock that remove takes
// to add up what a session leaves behind.
func (r *registry) moved() (live int, up, down int64) {
	r.mu.Lock()
	sessions := slices.Clone(r.sessions)
	up, down = r.up, r.down
	r.mu.Unlock()
	for _, s := range sessions {
		u, d := s.moved()
		up, down = up+u, down+d
	}
	return len(sessions), up, down
}

// Listening returns the number of listeners that connections are accepted from.
func (s *Server) Listening() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listeners)
}

// Activity is what a live session has moved.
type Activity struct {
	// Up and Down are the bytes passed to the broker and to the client after
	// CONNECT and CONNACK.
	Up, Down int64
	// Denied is how many messages and subscriptions its topic rules did not allow.
	Denied int64
	// Idle is how long ago data last came from or went to the client, to the
	// millisecond; negative if the system does not know, as off Linux.
	Idle time.Duration
}
