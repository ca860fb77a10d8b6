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

// Server connects clients that have a good token to a broker. The zero value is ready to
// use once it has a [Policy]. Its fields must not change after the first Serve; its methods
// may be called from any goroutine.
type Server struct {
	// Trace has the hooks for logs and metrics.
	Trace Trace
	// HoldThreads halves the CPU time of a relayed message: for a moment each event loop
	// waits for the next message on its own thread, instead of giving its processor back.
	// The process must have [EventLoops] more processors (GOMAXPROCS) than it is meant to
	// use.
	HoldThreads bool
	// WriteTimeout is how long the client or the broker may accept no byte at all while
	// there is something for it, before its session ends; 0 means 60 s.
	WriteTimeout time.Duration

	policy      atomic.Pointer[installed]
	idKey       []byte // ClientIDKey of policies that have none
	idKeyMade   sync.Once
	admission   admission
	acceptances acceptances
	registry    registry
	rechecks    rechecks
	pump        relay.Pump // use relay
	pumpOnce    sync.Once
	sessions    sync.WaitGroup // whose relay has started

	closing   atomic.Bool
	serving   sync.WaitGroup // connections in the hands of conn.serve
	mu        sync.Mutex     // guards what follows
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{} // in the hands of conn.serve, and not trusted yet
	base      context.Context    // use baseContext
	endBase   context.CancelCauseFunc
}

// EventLoops returns how many event loops the sessions of a server share; it depends on
// GOMAXPROCS. It returns 0 on systems without event loops.
func EventLoops() int { return relay.EventLoops() }

// LendsTLSBuffers reports whether idle TLS connections need no buffer. If it is false, the
// program was built with a release of Go that does not allow that, and each TLS connection
// may keep up to 17 KiB.
func LendsTLSBuffers() bool { return relay.LendsTLSBuffers() }

// installed is a policy that is in use.
type installed struct {
	*Policy
	handshakes  chan struct{}
	clientIDKey []byte
}

// SetPolicy applies p to the connections that are accepted from now on. Those that were
// accepted before keep the policy that they began with, but rechecks of live sessions ask
// the Authorizer of p. SetPolicy must be called before Serve, and p must not change
// afterwards. It returns an error if p lacks something.
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

// Serve accepts connections from ln until the server is closed, and returns
// [ErrServerClosed] then. It returns another error only if there is no policy or if ln was
// closed by someone else. Serve closes ln. Connections of a [*Listener] follow its fields;
// those of any other listener are plain MQTT.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	if err := s.trackListener(ln); err != nil {
		return err
	}
	defer s.untrackListener(ln)
	if s.policy.Load() == nil {
		return errors.New("proxy: Serve without a policy; call SetPolicy first")
	}
	s.admission.countListeners(1)
	defer s.admission.countListeners(-1)
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
			// Most likely there are no descriptors left, or a connection was reset
			// while it was in the queue. Neither is a reason to stop listening.
			s.acceptFailed(settings(), err, failed.next())
		}
	}
}

// relay returns the pump that relays all sessions.
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

// next returns the pause, and makes the next one longer.
func (b *backoff) next() time.Duration {
	*b = min(max(*b*2, backoff(5*time.Millisecond)), backoff(time.Second))
	return time.Duration(*b)
}

// acceptFailed reports an error of a listener and pauses before the next attempt.
func (s *Server) acceptFailed(l *listenerSettings, err error, retry time.Duration) {
	ctx := s.baseContext()
	defer s.pauseUntil(ctx, time.Now().Add(retry))
	defer func() { s.recovered(recover()) }()
	if hook := s.Trace.AcceptFailed; hook != nil {
		hook(l.name, err, retry)
	}
}

// accept starts the goroutine of one connection, or closes the connection if there is no
// room even to refuse it.
func (s *Server) accept(nc net.Conn, l *listenerSettings) {
	c, ok := s.newConn(s.baseContext(), nc, l)
	if !ok {
		s.drop(nc, l)
		return
	}
	go func() {
		defer s.connDone(c)
		c.serve()
	}()
}

// recovered is called with the result of recover. It reports whether there was a panic and
// passes it to the Panicked hook: a bug must end one connection at most, not the process.
func (s *Server) recovered(value any) bool {
	if value == nil {
		return false
	}
	if hook := s.Trace.Panicked; hook != nil {
		hook(value, debug.Stack())
	}
	return true
}

// drop closes a connection that was not admitted.
func (s *Server) drop(nc net.Conn, l *listenerSettings) {
	defer func() { s.recovered(recover()) }()
	nc.Close()
	if hook := s.Trace.Dropped; hook != nil {
		hook(l.name)
	}
}

// ServeConn serves a connection that the caller has accepted, as if it came from a plain
// listener named after its local address. It returns once the connection is relayed or
// refused. The server closes nc in any case. If ctx is canceled before the connection is
// relayed, it is refused. Without a policy nc is closed at once.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	l := &listenerSettings{name: nc.LocalAddr().String()}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.baseContext(), func() { cancel(context.Cause(s.baseContext())) })()
	c, ok := s.newConn(ctx, nc, l)
	if !ok {
		s.drop(nc, l)
		return
	}
	defer s.connDone(c)
	c.serve()
}

// newConn admits a connection. It may wait until another one that gives way is closed. After a
// panic, which most likely comes from Policy.Overload, it does not admit the connection.
func (s *Server) newConn(ctx context.Context, nc net.Conn, l *listenerSettings) (_ *conn, ok bool) {
	defer func() {
		if s.recovered(recover()) {
			ok = false
		}
	}()
	p := s.policy.Load()
	if p == nil {
		return nil, false
	}
	c := &conn{srv: s, policy: p, listener: l}
	c.arrival = arrival{accepted: time.Now(), addr: addrPortOf(nc.RemoteAddr()), raw: nc}
	c.ctx, c.abort = context.WithCancelCause(ctx)
	if !s.admission.admit(c) {
		c.abort(nil)
		return nil, false
	}
	// Behind a load balancer the client's address is not known yet.
	known := len(l.proxies) == 0 && !c.behindReverseProxy()
	if known && !s.admission.countAddress(c) || !s.trackConn(c) {
		s.admission.release(c)
		c.abort(nil)
		return nil, false
	}
	return c, true
}

// trackConn adds c to the connections whose time a shutdown shortens. It reports false if
// the server is closing.
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

// untrackConn removes c from the connections whose time a shutdown shortens. The deadline
// would end a session that is relayed.
func (s *Server) untrackConn(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// connDone is called when conn.serve has returned.
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
