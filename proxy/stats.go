package proxy

import (
	"slices"
	"time"
)

// Stats is what a [Server] does now and has done since its beginning.
type Stats struct {
	// Connections is the number of connections that are accepted and not closed, with
	// those of sessions.
	Connections int
	// Pending is how many of them have not sent their CONNECT, or are refused and not
	// closed yet.
	Pending int
	// Sessions is the number of connections with a good token.
	Sessions int
	// Up and Down are the bytes passed to the broker and to clients after CONNECT and
	// CONNACK, by live sessions and by those that have ended. They never decrease.
	Up, Down int64
	// Quiet is the number of relayed sessions that wait in an event loop, Busy the number
	// of those that have goroutines. Escalations is how often a quiet one became busy.
	Quiet, Busy int
	Escalations int64
	// Held is the number of sessions that are held to a rate now: something that the client
	// has sent waits. Holds is how often that began.
	Held  int
	Holds int64
}

// Stats returns the statistics of the server. It takes time in proportion to the number of
// sessions, some 10 ms for 100,000.
func (s *Server) Stats() Stats {
	var st Stats
	st.Connections, st.Pending = s.admission.connections()
	st.Sessions, st.Up, st.Down = s.registry.moved()
	p := s.pump.Stats()
	st.Quiet, st.Busy, st.Escalations = p.Quiet, p.Busy, p.Escalations
	st.Held, st.Holds = p.Held, p.Holds
	return st
}

// moved returns the number of live sessions, and the bytes that these and all sessions
// before them have passed on. A session that ends meanwhile is counted once, as a live one,
// because remove adds its bytes to those of ended sessions under the same lock.
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

// Activity is what a live session has done.
type Activity struct {
	// Up and Down are the bytes passed to the broker and to the client after
	// CONNECT and CONNACK.
	Up, Down int64
	// Denied is how many messages and subscriptions its topic rules, its topic map or its
	// limits did not allow.
	Denied int64
	// Holds is how often the client was held to a rate.
	Holds int64
	// Idle is the time since data last came from or went to the client, in whole
	// milliseconds. It is negative if that is not known, as on systems other than Linux.
	Idle time.Duration
}
