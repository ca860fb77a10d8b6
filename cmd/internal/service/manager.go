package service

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// summary is what the service does, in a line.
func (s *Service) summary() string {
	doing := "serving"
	if s.draining.Load() {
		doing = "shutting down"
	}
	st := s.server.Stats()
	return fmt.Sprintf("%s: %d sessions, %d connections", doing, st.Sessions, st.Connections)
}

// alive returns why the process cannot serve anybody, whatever the world around it
// does: a broker that is down is no reason to start the proxy again. Where a lock is
// held for ever it does not return.
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

// warn logs what stops nothing but should be seen to.
func (s *Service) warn() {
	in := s.current.Load()
	c := in.config
	for _, w := range warnings(c) {
		s.Log.Warn("config", zap.Stringer("warning", w))
	}
	s.checkSockets(c)
	// A session has two: one to the device, one to the broker.
	if devices, _ := limitDescriptors(c.Limits, in.sources.remote()); devices > 0 && devices < 2*c.Limits.Connections {
		s.Log.Warn("limits.connections is more than the file descriptors are for: raise LimitNOFILE or ulimit -n",
			zap.Int("connections", c.Limits.Connections), zap.Int("descriptors", devices))
	}
}

// checkSockets says which of the manager's sockets nobody listens on.
func (s *Service) checkSockets(c *config.Config) {
	used := map[string]bool{}
	for _, l := range c.Listeners {
		name, _ := config.Inherited(l.Address)
		used[name] = true
	}
	name, _ := config.Inherited(c.Admin.Address)
	used[name] = true
	for _, name := range s.Sockets.Names() {
		if !used[name] {
			s.Log.Warn("nobody listens on a socket of systemd", zap.String("name", name),
				zap.Error(errors.New("set the address of a listener to systemd:"+name)))
		}
	}
}
