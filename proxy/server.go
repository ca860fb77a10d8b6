package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// ErrServerClosed is returned by [Server.Serve] after Shutdown or Close.
var ErrServerClosed = errors.New("proxy: server closed")

// Server lets clients with a good token through to a broker. The zero value
// with a [Policy] is ready to use.
type Server struct {
	// Trace is told what happens. It may not change after the first Serve.
	Trace Trace
	// HoldThreads halves the CPU time of a relayed message: each event loop waits for
	// the next one on its own thread, for moments, instead of giving its processor
	// back. The process must have [EventLoops] more of them (GOMAXPROCS) than it is
	// meant to use. It may not change after the first Serve.
	HoldThreads bool
	// WriteTimeout is how long the client or the broker may take no byte at all while
	// there is something for it, before its session ends; 0 means 60 s. It may not
	// change after the first Serve.
	WriteTimeout time.Duration

	policy      atomic.Pointer[installed]
	idKey       []byte // for policies without one; see SetPolicy
	idKeyMade   sync.Once
	admission   admission
	acceptances acceptances
	registry    registry
	rechecks    rechecks
	pump        relay.Pump // see relay
	pumpOnce    sync.Once
	sessions    sync.WaitGroup

	closing   atomic.Bool
	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{} // those that are no session yet
	serving   sync.WaitGroup     // of conns
	lifetime  context.Context    // ends with Close
	end       context.CancelCauseFunc
}

// EventLoops returns how many event loops the sessions of a server share, 0 on
// systems without them; it follows from GOMAXPROCS.
func EventLoops() int { return relay.EventLoops() }

// installed is a policy with what belongs to it at run time.
type installed struct {
	*Policy
	handshakes  chan struct{}
	clientIDKey []byte
}

// SetPolicy makes p what happens to connections from now on. Those that were
// accepted before keep the policy they began with; about live sessions the
// Authorizer of p is asked from now on. It must be called once before
// Serve; p must not change afterwards. It returns an error if p lacks something.
func (s *Server) SetPolicy(p *Policy) error {
	if err := p.check(); err != nil {
		return err
	}
	key := p.ClientIDKey
	if len(key) == 0 {
		s.idKeyMade.Do(func() { s.idKey = []byte(rand.Text()) })
		key = s.idKey
	}
	s.policy.Store(&installed{Policy: p, handshakes: handshakeSlots(p.Limits.Handshakes), clientIDKey: key})
	return nil
}

// Serve accepts connections until the server is closed and returns
// [ErrServerClosed]; only that, or a listener that somebody else has closed, ends
// it. Without a policy it returns an error at once. Serve closes ln.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	if err := s.trackListener(ln); err != nil {
		return err
	}
	defer s.untrackListener(ln)
	if s.policy.Load() == nil {
		return errors.New("proxy: Serve without a policy; call SetPolicy first")
	}
	s.admission.listen(1)
	defer s.admission.listen(-1)
	settings := settingsOf(ln)
	var failed backoff
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			failed = 0
			s.accept(nc, settings())
		case s.draining():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Out of descriptors, most likely, or a connection that was reset in
			// the queue: never a reason to stop listening.
			s.acceptFailed(settings(), err, failed.next())
		}
	}
}

// relay returns the pump, set up.
func (s *Server) relay() *relay.Pump {
	s.pumpOnce.Do(func() {
		s.pump.HoldThread, s.pump.WriteTimeout = s.HoldThreads, s.WriteTimeout
		s.pump.Panicked = s.Trace.Panicked
		if limits := &s.policy.Load().Limits; limits.Descriptors > 0 {
			s.pump.LimitPipes(limits.pipes())
		}
	})
	return &s.pump
}

// backoff is a pause that doubles from 5 ms to 1 s.
type backoff time.Duration

func (b *backoff) next() time.Duration {
	*b = min(max(*b*2, backoff(5*time.Millisecond)), backoff(time.Second))
	return time.Duration(*b)
}

func (s *Server) acceptFailed(l *listenerSettings, err error, retry time.Duration) {
	if hook := s.Trace.AcceptFailed; hook != nil {
		hook(l.name, err, retry)
	}
	pause := time.NewTimer(retry)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-s.life().Done():
	}
}

// accept starts the goroutine of one connection, or closes it if there are too
// many even to refuse it politely.
func (s *Server) accept(nc net.Conn, l *listenerSettings) {
	defer func() {
		if s.recovered(recover()) {
			nc.Close()
		}
	}()
	c, ok := s.newConn(s.life(), nc, l)
	if !ok {
		s.drop(nc, l)
		return
	}
	go func() {
		defer s.connDone(c)
		defer func() { s.recovered(recover()) }()
		c.serve()
	}()
}

// recovered is given what recover returns, and reports whether that was a panic, which
// is a bug that shall end one connection at most.
func (s *Server) recovered(value any) bool {
	if value == nil {
		return false
	}
	if hook := s.Trace.Panicked; hook != nil {
		hook(value, debug.Stack())
	}
	return true
}

func (s *Server) drop(nc net.Conn, l *listenerSettings) {
	nc.Close()
	if hook := s.Trace.Dropped; hook != nil {
		hook(l.name)
	}
}

// ServeConn takes over one connection, as if a plain listener named after its
// local address had accepted it. It returns once the connection is a session or
// is refused, and closes it in the end. Canceling ctx refuses a connection that is
// no session yet. Without a policy nc is closed at once.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	l := &listenerSettings{name: nc.LocalAddr().String()}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life(), func() { cancel(context.Cause(s.life())) })()
	c, ok := s.newConn(ctx, nc, l)
	if !ok {
		s.drop(nc, l)
		return
	}
	defer s.connDone(c)
	c.serve()
}

// newConn admits a connection. It may wait for one that gives way.
func (s *Server) newConn(ctx context.Context, nc net.Conn, l *listenerSettings) (*conn, bool) {
	p := s.policy.Load()
	if p == nil {
		return nil, false
	}
	c := &conn{srv: s, policy: p, listener: l}
	c.arrival = arrival{accepted: time.Now(), addr: addrPortOf(nc.RemoteAddr()), raw: nc, transport: nc}
	c.ctx, c.abort = context.WithCancelCause(ctx)
	if !s.admission.enter(c) {
		c.abort(nil)
		return nil, false
	}
	// Behind a load balancer the device's address is not known yet.
	early := len(l.proxies) == 0 && !c.fronted()
	if early && !s.admission.arrive(c) || !s.trackConn(c) {
		s.admission.leave(c)
		c.abort(nil)
		return nil, false
	}
	return c, true
}

// trackConn adds c to the connections that a shutdown hurries. It reports false if the
// server is closing.
func (s *Server) trackConn(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[*conn]struct{})
	}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	return true
}

// untrackConn takes the connection out of those that a shutdown hurries: the deadline
// would end a session later, or wake it for ever.
func (s *Server) untrackConn(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) connDone(c *conn) {
	s.untrackConn(c)
	s.serving.Done()
}

// Kick ends every session that match means and returns their number. cause is
// one of this package's Err values, or any other error to end them like
// [ErrKicked]. Connections whose token is being checked are checked again if match
// means them afterwards. match must be quick and may be called at any later time
// from another goroutine.
func (s *Server) Kick(match func(*Client) bool, cause error) int {
	n := 0
	for _, session := range s.registry.matching(match) {
		if session.cut(cause) {
			n++
		}
	}
	return n
}

// Sessions returns the sessions as they are now, in no order, each with a function
// that asks for its activity. Asking costs up to two system calls.
func (s *Server) Sessions() iter.Seq2[*Client, func() Activity] {
	return func(yield func(*Client, func() Activity) bool) {
		for _, session := range s.registry.all() {
			if !yield(session.current(), session.activity) {
				return
			}
		}
	}
}

// Clients returns the sessions as they are now, in no order.
func (s *Server) Clients() iter.Seq[*Client] {
	return func(yield func(*Client) bool) {
		for _, session := range s.registry.all() {
			if !yield(session.current()) {
				return
			}
		}
	}
}
