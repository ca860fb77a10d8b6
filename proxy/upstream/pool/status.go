package pool

import (
	"context"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// State is the state of a server.
type State string

// The states. The set is closed: it is safe as a metric label.
const (
	Unknown    State = "unknown"    // it has not been tried yet and is treated as Up
	Up         State = "up"         // it answers
	Recovering State = "recovering" // it answers again and is in its slow start
	Down       State = "down"       // it does not answer
)

// States returns all of them.
func States() []State { return []State{Unknown, Up, Recovering, Down} }

// Status describes one server.
type Status struct {
	Server upstream.Server
	State  State
	// Since is when the server went down or came up. It is zero if the state is Unknown.
	Since time.Time
	// Sessions counts the sessions of this process, including those that are connecting.
	Sessions int
	// Failures is the number of failures in a row.
	Failures int
	// LastError is the last failure and Failed is its time. Both are kept after a recovery.
	LastError error
	Failed    time.Time
}

// Status returns the status of every server, in the order of Options.Servers.
func (p *Pool) Status() []Status {
	all := make([]Status, 0, len(p.members))
	for _, m := range p.members {
		s := m.status()
		if s.State == Up && p.options.Balance != ClientID && p.options.Balance != "" && m.weight(time.Now(), p.options.SlowStart) < 1 {
			s.State = Recovering
		}
		all = append(all, s)
	}
	return all
}

func (m *member) status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		Server: m.server, State: Up, Since: m.since, Sessions: int(m.sessions.Load()),
		Failures: m.failures, LastError: m.err, Failed: m.failedAt,
	}
	switch {
	case m.down:
		s.State = Down
	case m.since.IsZero():
		s.State = Unknown
	}
	return s
}

// Answers returns nil if the last attempt with some server succeeded. Otherwise it asks every
// server at once; the error names all of them.
func (p *Pool) Answers(ctx context.Context) error {
	for _, m := range p.members {
		if s := m.status(); s.State == Up && s.Failures == 0 {
			return nil
		}
	}
	failed := make(failures, len(p.members))
	answered := make([]bool, len(p.members))
	var asking sync.WaitGroup
	for i, m := range p.members {
		asking.Go(func() {
			err := p.probe(ctx, m)
			failed[i], answered[i] = fault{m.server, err}, err == nil
		})
	}
	asking.Wait()
	for _, ok := range answered {
		if ok {
			return nil
		}
	}
	return failed
}
