package service

import (
	"cmp"
	"context"
	"iter"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// stateFile is the file in the data directory that says when devices were seen.
const stateFile = "state.db"

// openPresence makes what records first and last seen.
func (s *Service) openPresence() {
	s.presence = presence.New(presence.Options{
		Target:  func() presence.Target { return PresenceTarget(s.current.Load().config) },
		Clients: func() iter.Seq[*proxy.Client] { return s.server.Clients() },
		Changed: func(fault error) {
			if fault != nil {
				s.Log.Error("when devices were seen cannot be recorded; the proxy tries again, and devices are served", zap.Error(fault))
				return
			}
			s.Log.Info("when devices were seen is recorded again")
		},
		Aside: func(path string, err error) {
			s.Log.Error("the file that records when devices were seen was damaged; it was renamed, and a new one was made", zap.String("renamed_to", path), zap.Error(err))
		},
	})
}

// PresenceTarget returns where first and last seen are recorded: in the database of the first
// source with the proxy's own tables, or in a file of the data directory.
func PresenceTarget(c *config.Config) presence.Target {
	for _, source := range c.Auth.Sources {
		if p := source.Postgres; p != nil && p.Query == "" {
			return presence.Target{DSNFile: p.DSNFile, Proxy: proxyName(c)}
		}
	}
	return presence.Target{Path: filepath.Join(c.Data, stateFile)}
}

// proxyName returns the name by which other proxies know this one.
func proxyName(c *config.Config) string {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	return cmp.Or(c.Replicas.Name, name)
}

// presenceCloseTimeout is how long the last records may take.
const presenceCloseTimeout = 3 * time.Second

// closePresence writes the last records.
func (s *Service) closePresence() {
	ctx, cancel := context.WithTimeout(context.Background(), presenceCloseTimeout)
	defer cancel()
	if err := s.presence.Close(ctx); err != nil {
		s.Log.Error("the last records of when devices were seen are lost", zap.Int("devices", s.presence.Stats().Pending), zap.Error(err))
	}
}

func (s *Service) presenceStatus() admin.PresenceStatus {
	target := PresenceTarget(s.current.Load().config)
	return admin.PresenceStatus{Store: cmp.Or(target.Path, target.DSNFile), Error: textOf(s.presence.Fault())}
}

func (s *Service) presenceState() observe.Presence {
	return observe.Presence{Stats: s.presence.Stats(), Recorded: s.presence.Fault() == nil}
}
