package pool

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// DefaultTimeout limits [Pool.Connect] if its context has no deadline.
const DefaultTimeout = 5 * time.Second

// MaxServers is how many servers a pool may have.
const MaxServers = 64

// Balance is how a server is chosen. See the package comment.
type Balance string

// The balances. The zero value is ClientID.
const (
	ClientID         Balance = "client_id"
	LeastConnections Balance = "least_connections"
	RoundRobin       Balance = "round_robin"
)

// MaxWeight is the highest weight of a server.
const MaxWeight = 100

// Server is a server of a pool.
type Server struct {
	upstream.Server
	// Weight is the server's share of the sessions relative to that of the others, at most
	// MaxWeight; 0 means 1.
	Weight int
	// Backup means that a session tries the server only after all servers that are no backup.
	Backup bool
}

// Options configures a pool.
type Options struct {
	// Servers has from one to MaxServers different servers.
	Servers []Server
	Balance Balance
	// Dial opens a connection to one server, as [upstream.Dialer.Dial] does.
	Dial func(ctx context.Context, s upstream.Server) (net.Conn, error)
	// Failures is how many failures in a row make a server count as down; 0
	// means 3.
	Failures int
	// SlowStart is how long it takes after a recovery until a server gets its
	// full share, under LeastConnections and RoundRobin; 0 or less means no time.
	SlowStart time.Duration
	Health    Health
	Trace     Trace
	// Advice says what may be wrong with a server that accepts connections but has not answered
	// any session yet. It is added to the error in parentheses.
	Advice string
	// Previous, if not nil, is the pool that this one replaces.
	Previous *Pool
}

// Health is how servers are probed.
type Health struct {
	// Interval is how long a server may go without an answer before it is probed; 0 or less
	// means that only servers that are down are probed.
	Interval time.Duration
	// Timeout is the time for one probe; 0 means 2 s.
	Timeout time.Duration
	// MQTT makes a probe send a CONNECT, which must be answered by any CONNACK. Otherwise a
	// successful connection is enough. The CONNECT has Username and Password if Username is not
	// empty.
	MQTT               bool
	Username, Password string
}

// Trace is a set of hooks that a pool calls. Any of them may be nil. They are called from many
// goroutines at the same time. All but Lost must return quickly.
type Trace struct {
	// Tried is called when an attempt to connect a session has ended.
	Tried func(s upstream.Server, outcome Outcome, took time.Duration)
	// Probed is called when a probe has ended.
	Probed func(s upstream.Server, err error)
	// Changed is called when a server went down for the reason given, or came up again.
	Changed func(s upstream.Server, up bool, reason error)
	// Lost is called when the sessions on a server that is down can get no more data.
	Lost func(s upstream.Server)
	// Panicked is called when a panic has ended a probe, which then has no result.
	Panicked func(value any, stack []byte)
}

// Outcome is how one attempt to connect a session to a server ended.
type Outcome string

// The outcomes. The set is closed: it is safe as a metric label.
const (
	Answered    Outcome = "answered"    // it sent a CONNACK, or the session ended after an answer
	Unreachable Outcome = "unreachable" // no connection, or no TLS
	Unanswered  Outcome = "unanswered"  // a connection, but no answer to the CONNECT
	Abandoned   Outcome = "abandoned"   // not the server's fault: the session was cancelled, or this process lacks a resource
)

// Outcomes returns all of them.
func Outcomes() []Outcome { return []Outcome{Answered, Unreachable, Unanswered, Abandoned} }

var _ proxy.Upstream = (*Pool)(nil)

// Pool is a set of servers. Its methods may be called from any goroutine.
type Pool struct {
	options Options
	members []*member // in the order of Options.Servers
	left    []*member // of the pools before, not in Options.Servers, and with sessions or drained
	even    bool      // all servers have the same weight
	probeID string    // the client id of probes

	mu   sync.Mutex // guards the choice of a server
	turn uint       // of RoundRobin, and among members with equal load
}

// New returns a pool. It starts nothing. New panics if there are no servers, more than
// MaxServers, or no Dial.
func New(o Options) *Pool {
	if len(o.Servers) == 0 || len(o.Servers) > MaxServers || o.Dial == nil {
		panic("pool: bad options")
	}
	p := &Pool{options: o, even: true, probeID: "probe-" + rand.Text()[:16]}
	before := o.Previous.all()
	for i, s := range o.Servers {
		m := take(&before, s.Server)
		p.members = append(p.members, m)
		p.even = p.even && p.weight(i) == p.weight(0)
	}
	p.left = slices.DeleteFunc(before, func(m *member) bool { return m.sessions.Load() == 0 && !m.drained.Load() })
	p.options.Previous = nil
	return p
}

// all returns the members of the pool and those that have left it.
func (p *Pool) all() []*member {
	if p == nil {
		return nil
	}
	return slices.Concat(p.members, p.left)
}

// take removes the member of a server from a list and returns it, or a new one.
func take(list *[]*member, s upstream.Server) *member {
	i := slices.IndexFunc(*list, func(m *member) bool { return m.server == s })
	if i < 0 {
		return newMember(s)
	}
	m := (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return m
}

// member returns the state of a server, or nil if the pool does not have the server.
func (p *Pool) member(s upstream.Server) *member {
	for _, m := range p.members {
		if m.server == s {
			return m
		}
	}
	return nil
}

// weight returns the weight of the member with this index.
func (p *Pool) weight(i int) float64 { return float64(cmp.Or(p.options.Servers[i].Weight, 1)) }

func (p *Pool) threshold() int {
	return cmp.Or(p.options.Failures, 3)
}

// Connect implements [proxy.Upstream]: it finds a server for the client of r and calls
// greet with a connection to it. The package comment describes how servers are chosen
// and how long each may take. The error names every server that was tried, or says that
// none is up.
func (p *Pool) Connect(ctx context.Context, r *proxy.ConnectRequest, greet proxy.Greet) (proxy.Link, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	id := r.Out.ClientID
	a := attempt{pool: p, key: hash(id), keyed: id != "", subject: hash(r.Client.Subject()), greet: greet}
	var failed failures
	for a.next() {
		link, err := a.try(ctx)
		if err == nil {
			return link, nil
		}
		if a.outcome == Answered {
			return proxy.Link{}, err
		}
		failed = append(failed, fault{a.member.server, err})
		if over(ctx) {
			return proxy.Link{}, failed
		}
	}
	if len(failed) == 0 {
		return proxy.Link{}, p.down()
	}
	return proxy.Link{}, failed
}

// over reports whether ctx has ended or is about to: a share of its time ends at the same
// moment.
func over(ctx context.Context) bool {
	deadline, _ := ctx.Deadline()
	return ctx.Err() != nil || time.Until(deadline) <= 0
}

// down returns an error that says why there is no server to try.
func (p *Pool) down() failures {
	all := make(failures, 0, len(p.members))
	for _, m := range p.members {
		reason := "is down"
		switch s := m.status(); {
		case s.State == Drained:
			reason = "takes no new sessions until an operator enables it"
		case s.LastError != nil:
			// The old errors are only quoted: a timeout of the past is not a timeout of this
			// session.
			reason += ": " + s.LastError.Error()
		}
		all = append(all, fault{m.server, errors.New(reason)})
	}
	return all
}
