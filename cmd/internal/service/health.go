package service

import (
	"errors"
	"fmt"
)

// ready returns why devices cannot be served, or nil.
func (s *Service) ready() error {
	switch {
	case s.draining.Load():
		return errors.New("draining")
	case s.bundled != nil:
		return s.bundled.ready()
	}
	return s.current.Load().upstream.answers()
}

// summary describes in one line what the service is doing.
func (s *Service) summary() string {
	doing := "serving"
	if s.draining.Load() {
		doing = "shutting down"
	}
	st := s.server.Stats()
	return fmt.Sprintf("%s: %d sessions, %d connections", doing, st.Sessions, st.Connections)
}

// alive returns an error if the process itself cannot serve devices. A broker that is down does
// not count, because restarting the proxy would not help. If a lock is never released, alive
// does not return.
func (s *Service) alive() error {
	s.swap.RLock()
	defer s.swap.RUnlock()
	s.server.Stats()
	if s.draining.Load() {
		return nil
	}
	if got, want := s.server.Listening(), len(s.current.Load().listeners); got < want {
		return fmt.Errorf("%d of %d listeners accept connections", got, want)
	}
	return nil
}
