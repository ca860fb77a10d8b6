package proxy

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

// Shutdown ends the server in order: it closes the listeners, refuses whoever is
// not a session yet, tells every session goodbye and waits until all is closed.
// When ctx ends first it does what Close does and returns ctx's error. A server
// does not start again.
func (s *Server) Shutdown(ctx context.Context) error { return s.Drain(ctx, 0) }

// Drain is [Server.Shutdown] that ends the sessions one after the other over the
// given time, in random order, so that they do not come back all at once
// elsewhere.
func (s *Server) Drain(ctx context.Context, spread time.Duration) error {
	s.closeListeners()
	s.setReadDeadlines(time.Now().Add(lingerTimeout))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.dismiss(ctx, spread)
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

// dismiss ends the sessions that there are, evenly spread. It stops when ctx or
// the server's life ends; others cut what is left then.
func (s *Server) dismiss(ctx context.Context, spread time.Duration) {
	defer func() { s.recovered(recover()) }()
	sessions := s.registry.matching(everyone)
	rand.Shuffle(len(sessions), func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] })
	start, each := time.Now(), spread/time.Duration(max(len(sessions), 1))
	for i, session := range sessions {
		if !s.pauseUntil(ctx, start.Add(time.Duration(i)*each)) {
			return
		}
		session.cut(ErrDraining)
	}
}

// pauseUntil reports whether t has come before ctx or the server's life ended.
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
	case <-s.life().Done():
		return false
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
	s.setReadDeadlines(time.Unix(1, 0))
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

// setReadDeadlines gives those that are no session yet until t for their CONNECT.
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

// life returns the context that ends with Close.
func (s *Server) life() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lifetime == nil {
		s.lifetime, s.end = context.WithCancelCause(context.Background())
	}
	return s.lifetime
}
