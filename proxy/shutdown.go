package proxy

import (
	"context"
	"net"
	"time"
)

// Shutdown ends the server in order: it closes the listeners, refuses whoever is
// not a session yet, tells every session goodbye and waits until all is closed.
// When ctx ends first it does what Close does and returns ctx's error. A server
// does not start again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closeListeners()
	s.hurryConns(time.Now().Add(lastWords))
	s.Kick(everyone, ErrDraining)
	done := make(chan struct{})
	go func() {
		defer close(done)
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

// Close ends the server at once: sessions are cut without a word. It returns when
// all is closed.
func (s *Server) Close() error {
	s.closeListeners()
	s.cutAll()
	s.wait()
	return nil
}

func everyone(*Client) bool { return true }

func (s *Server) cutAll() {
	s.life()
	s.end(errClosed)
	s.hurryConns(time.Unix(1, 0))
	s.Kick(everyone, errClosed)
}

// wait returns when no connection and no session is left. Connections come
// first: they may yet become sessions.
func (s *Server) wait() {
	s.serving.Wait()
	// One that became a session after the first Kick.
	s.Kick(everyone, ErrDraining)
	s.sessions.Wait()
	s.pump.Wait()
	// Nobody is left whose answer would count.
	s.life()
	s.end(errClosed)
	s.rechecks.close()
}

// hurryConns gives those that are no session yet until t for their CONNECT.
func (s *Server) hurryConns(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.hurry(t)
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

func (s *Server) track(ln net.Listener) error {
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

func (s *Server) untrack(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

// life returns the context that ends with Close.
func (s *Server) life() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lifetime == nil {
		s.lifetime, s.end = context.WithCancelCause(context.Background())
	}
	return s.lifetime
}
