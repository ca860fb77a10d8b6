package pool

import (
	"context"
	"fmt"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// Login is a user name and a password for the servers. None is sent if it is empty.
type Login struct{ Username, Password string }

// Refuses tries a login at every server that is neither down nor drained. It returns why they
// refuse it, or nil if a server accepts it or none says that it is wrong. It connects only for a
// moment, with a client id of its own, and does not change the health of the servers.
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
	code, err := p.login(ctx, m.server, &l)
	switch {
	case err != nil:
		return false, nil
	case code == packets.RefusedUserName, code == packets.RefusedNotAuthorized:
		return false, answered(code)
	}
	return code == packets.Success, nil
}

// Try connects to a server and, if there is a login, sends a CONNECT with it, which starts a clean
// session that ends at once. It returns why the server cannot be used. A server that refuses only
// the client id, which is no device's, can be. The health of servers does not depend on Try.
func (p *Pool) Try(ctx context.Context, s upstream.Server, l *Login) error {
	code, err := p.login(ctx, s, l)
	switch {
	case err != nil:
		return err
	case code != packets.Success && code != packets.RefusedIdentifier:
		return answered(code)
	}
	return nil
}

// login connects to a server and, if there is a login, returns its answer to a CONNECT with it.
func (p *Pool) login(ctx context.Context, s upstream.Server, l *Login) (packets.ReasonCode, error) {
	conn, err := p.options.Dial(ctx, s)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	if l == nil {
		return packets.Success, nil
	}
	raw, err := p.connect(ctx, conn, *l)
	if err != nil {
		if p.options.Advice != "" {
			err = fmt.Errorf("%w (%s)", err, p.options.Advice)
		}
		return 0, err
	}
	var ack packets.Connack
	err = ack.Parse(raw, probeLevel)
	return ack.Code, err
}

func answered(code packets.ReasonCode) error {
	return fmt.Errorf("the broker answered %v (%d)", code, byte(code))
}
