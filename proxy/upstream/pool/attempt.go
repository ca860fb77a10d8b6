package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// attempt is one session on its way to a server, and which servers it has tried.
type attempt struct {
	pool    *Pool
	key     uint64 // of the client id
	keyed   bool   // there is one
	subject uint64
	greet   proxy.Greet

	tried   uint64 // a bit for each member
	member  *member
	last    bool // the member is down, and the last resort
	waiting int  // members whose turn could still come, this one included
	outcome Outcome
}

// try connects to the member that next has chosen, and gives its place back
// unless it succeeds.
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

// advise adds to the error of a server that did not answer what may be wrong with it.
func (p *Pool) advise(m *member, err error) error {
	if p.options.Advice == "" || m.hasServed() {
		return err
	}
	return fmt.Errorf("%w (%s)", err, p.options.Advice)
}

// share returns the part of the time left that the chosen member gets.
func (a *attempt) share(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline()
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(a.waiting))
}

// settle records the outcome for the member, unless the fault is not its own.
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
