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
	Drained    State = "drained"    // it takes no new sessions, whether it answers or not
)

// States returns all of them.
func States() []State { return []State{Unknown, Up, Recovering, Down, Drained} }

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
		if s.State == Up && p.options.Balance != ClientID && p.options.Balance != "" && m.ramped(time.Now(), p.options.SlowStart) < 1 {
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
	case m.drained.Load():
		s.State = Drained
	case m.down:
		s.State = Down
	case m.since.IsZero():
		s.State = Unknown
	}
	return s
}

// Drain takes a server out of use, or puts it back: a server that is drained takes no new sessions.
// Sessions that it has, also those that are connecting, stay. Probes go on. A server that is put
// back begins with its slow start. If another pool with the same server replaces this one, the
// server stays drained in it. Drain returns false if the pool does not have the server.
func (p *Pool) Drain(s upstream.Server, drained bool) bool {
	m := p.member(s)
	if m == nil {
		return false
	}
	p.mu.Lock() // an attempt that is choosing a server has counted its session afterwards
	defer p.mu.Unlock()
	if m.drained.Swap(drained) && !drained {
		m.slowDown()
	}
	return true
}

// Answers returns nil if the last attempt with some server that takes sessions succeeded.
// Otherwise it asks all of these servers at once; the error names all servers.
func (p *Pool) Answers(ctx context.Context) error {
	for _, m := range p.members {
		if s := m.status(); s.State == Up && s.Failures == 0 {
			return nil
		}
	}
	failed := p.down()
	answered := make([]bool, len(p.members))
	var asking sync.WaitGroup
	for i, m := range p.members {
		if m.drained.Load() {
			continue
		}
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
