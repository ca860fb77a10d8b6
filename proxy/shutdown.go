package proxy

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

// Shutdown ends the server in order: it closes the listeners, refuses connections that are
// no sessions yet, ends every session with [ErrDraining], and waits until all connections
// are closed. If ctx ends first, it does what Close does and returns ctx's error. A server
// cannot be started again.
func (s *Server) Shutdown(ctx context.Context) error { return s.Drain(ctx, 0) }

// Drain is like [Server.Shutdown], but ends the sessions one after the other over the time
// spread, in random order, so that they do not all connect to another server at once.
func (s *Server) Drain(ctx context.Context, spread time.Duration) error {
	s.closeListeners()
	s.setReadDeadlines(time.Now().Add(lingerTimeout))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.KickOver(ctx, spread, anyClient, ErrDraining)
		s.wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.cutAll()
		<-done
		return ctx.Err()
	}
}

// KickOver is like [Server.Kick], but ends the sessions evenly over the time spread, in random
// order, so that their clients do not all connect elsewhere at once. The sessions are those that
// match at the time of the call. It returns when it has ended them, when ctx is done, or when the
// server is closed.
func (s *Server) KickOver(ctx context.Context, spread time.Duration, match func(*Client) bool, cause error) {
	defer func() { s.recovered(recover()) }()
	sessions := s.registry.matching(match)
	rand.Shuffle(len(sessions), func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] })
	start, each := time.Now(), spread/time.Duration(max(len(sessions), 1))
	for i, session := range sessions {
		if !s.pauseUntil(ctx, start.Add(time.Duration(i)*each)) {
			return
		}
		session.cut(cause)
	}
}

// pauseUntil waits until t. It reports false if ctx is done or the server is closed first.
func (s *Server) pauseUntil(ctx context.Context, t time.Time) bool {
	left := time.Until(t)
	if left <= 0 {
		return ctx.Err() == nil
	}
	pause := time.NewTimer(left)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.baseContext().Done():
		return false
	}
}

// Close ends the server at once: connections are closed without a DISCONNECT. It returns
// when all of them are closed.
func (s *Server) Close() error {
	s.closeListeners()
	s.cutAll()
	s.wait()
	return nil
}

func anyClient(*Client) bool { return true }

// cutAll ends everything that Close ends.
func (s *Server) cutAll() {
	s.baseContext()
	s.endBase(errClosed)
	s.setReadDeadlines(time.Unix(1, 0))
	s.Kick(anyClient, errClosed)
}

// wait returns when no connection and no session is left. It waits for connections first,
// because they may become sessions.
func (s *Server) wait() {
	s.serving.Wait()
	// A connection may have become a session after the first Kick.
	s.Kick(anyClient, ErrDraining)
	s.sessions.Wait()
	s.pump.Wait()
	// There is no session left for which an answer would count.
	s.baseContext()
	s.endBase(errClosed)
	s.rechecks.close()
}

// setReadDeadlines gives connections that are no sessions until t for their CONNECT.
func (s *Server) setReadDeadlines(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.setReadDeadline(t)
	}
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	for ln := range s.listeners {
		ln.Close()
	}
}

func (s *Server) draining() bool { return s.closing.Load() }

func (s *Server) trackListener(ln net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return ErrServerClosed
	}
	if s.listeners == nil {
		s.listeners = make(map[net.Listener]struct{})
	}
	s.listeners[ln] = struct{}{}
	return nil
}

func (s *Server) untrackListener(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

// baseContext returns the context that ends when the server is closed.
func (s *Server) baseContext() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base == nil {
		s.base, s.endBase = context.WithCancelCause(context.Background())
	}
	return s.base
}
