package pool

import (
	"context"
	"fmt"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Login is a user name and a password for the servers. None is sent if it is empty.
type Login struct{ Username, Password string }

// Refuses asks every server that is neither down nor drained whether it accepts a login. It returns why they do
// not, or nil if a server accepts it or none says that it is wrong. It has a client id of its own
// and connects for a moment only; the health of servers does not depend on it.
func (p *Pool) Refuses(ctx context.Context, l Login) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout())
	defer cancel()
	answers := make([]error, len(p.members))
	good := make([]bool, len(p.members))
	var asking sync.WaitGroup
	for i, m := range p.members {
		if m.isUp() && !m.drained.Load() {
			asking.Go(func() { good[i], answers[i] = p.try(ctx, m, l) })
		}
	}
	asking.Wait()
	var refused failures
	for i, m := range p.members {
		switch {
		case good[i]:
			return nil
		case answers[i] != nil:
			refused = append(refused, fault{m.server, answers[i]})
		}
	}
	if refused == nil {
		return nil
	}
	return refused
}

// try connects to a server with a login. It returns whether the server accepts it, and an error if
// the server says that it is wrong.
func (p *Pool) try(ctx context.Context, m *member, l Login) (good bool, refused error) {
	defer func() { p.recoverPanic(recover()) }()
	conn, err := p.options.Dial(ctx, m.server)
	if err != nil {
		return false, nil
	}
	defer func() { _ = conn.Close() }()
	raw, err := p.connect(ctx, conn, l)
	var ack packets.Connack
	switch {
	case err != nil, ack.Parse(raw, probeLevel) != nil:
		return false, nil
	case ack.Code == packets.RefusedUserName, ack.Code == packets.RefusedNotAuthorized:
		return false, fmt.Errorf("the broker answered %v (%d)", ack.Code, byte(ack.Code))
	}
	return ack.Code == packets.Success, nil
}
