package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// attempt is the attempt to connect one session to a server, with the servers it has tried.
type attempt struct {
	pool    *Pool
	key     uint64 // hash of the client id
	keyed   bool   // whether the session has a client id
	subject uint64
	greet   proxy.Greet

	tried   uint64 // a bit for each member
	member  *member
	last    bool // the member is down and is tried as the last resort
	waiting int  // members that could still be tried, including this one
	outcome Outcome
}

// try connects to the member that next has chosen. It releases the member's place if it fails.
func (a *attempt) try(ctx context.Context) (link proxy.Link, err error) {
	started := time.Now()
	share, cancel := a.share(ctx)
	defer cancel()
	var conn net.Conn
	a.outcome = Abandoned
	defer func() {
		if link.Conn == nil {
			if conn != nil {
				_ = conn.Close()
			}
			a.member.release()
		}
		if a.last {
			a.member.endTrial(a.subject)
		}
		if hook := a.pool.options.Trace.Tried; hook != nil {
			hook(a.member.server, a.outcome, time.Since(started))
		}
	}()
	if conn, err = a.pool.options.Dial(share, a.member.server); err != nil {
		a.settle(ctx, Unreachable, err)
		return proxy.Link{}, err
	}
	answered, err := a.greet(share, conn)
	if !answered && err == nil {
		err = errors.New("no answer")
	}
	if answered {
		a.settle(ctx, Answered, nil)
	} else {
		err = a.pool.advise(a.member, err)
		a.settle(ctx, Unanswered, err)
	}
	if err != nil {
		return proxy.Link{}, err
	}
	return proxy.Link{Conn: conn, Server: a.member.name, Release: a.member.release}, nil
}

// advise adds a hint at the likely cause to the error of a server that did not answer.
func (p *Pool) advise(m *member, err error) error {
	if p.options.Advice == "" || m.hasServed() {
		return err
	}
	return fmt.Errorf("%w (%s)", err, p.options.Advice)
}

// share returns a context that gives the chosen member its part of the time left.
func (a *attempt) share(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline()
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(a.waiting))
}

// settle records the outcome for the member, unless the failure is not the member's fault.
func (a *attempt) settle(ctx context.Context, o Outcome, err error) {
	switch {
	case o == Answered:
		a.pool.succeeded(a.member)
	case errors.Is(ctx.Err(), context.Canceled), ours(err):
		return
	default:
		a.pool.failed(a.member, failure{err: err, silent: o == Unanswered})
	}
	a.outcome = o
}
