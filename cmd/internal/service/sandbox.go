package service

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

// confine gives up the right of the process to use files that the service does not need. It is
// called when everything is open.
func (s *Service) confine() {
	g := s.current.Load()
	if g.config.Sandbox == "off" {
		return
	}
	confined, err := host.Confine(g.access())
	switch {
	case errors.Is(err, host.ErrNoSandbox):
		s.Log.Info("no sandbox", zap.Error(err))
	case err != nil:
		s.Log.Warn("no sandbox", zap.Error(err))
	default:
		s.confined = true
		s.Log.Info("confined to the directories of its files, as they are now: a file that moves elsewhere needs a restart")
		s.logConfinement(confined)
	}
}

// logConfinement logs the directories from which new versions of files are read, and the links
// that must not change.
func (s *Service) logConfinement(c host.Confinement) {
	for _, dir := range c.Directories {
		s.Log.Debug("new versions of files are read from a directory", zap.String("path", dir))
	}
	for _, link := range c.Links {
		s.Log.Info("a link that is changed to point elsewhere needs a restart", zap.String("path", link))
	}
}

// access returns the files that the service reads and writes while it runs.
func (g *generation) access() host.Access {
	paths := g.config.Paths()
	delete(paths, "data") // is a directory, and among those that may be written to
	a := host.Access{
		Files: slices.Concat(g.config.Files, slices.Collect(maps.Keys(g.inputs)), slices.Collect(maps.Values(paths))),
		// The database sorts data that does not fit into memory in temporary files.
		Write: []string{g.config.Data, os.TempDir(), "/var/tmp", os.DevNull},
	}
	for _, source := range g.config.Auth.Sources {
		if source.Postgres != nil {
			a.Files = slices.Concat(a.Files, pgdsn.Files(source.Postgres.DSNFile), pgdsn.Files(source.Postgres.ListenDSNFile))
		}
	}
	if name := g.config.Replicas.DSNFile; name != "" {
		a.Files = append(a.Files, pgdsn.Files(name)...)
	}
	switch t := g.config.Telemetry; {
	case g.upstream != nil:
	case t.Postgres != nil:
		a.Files = append(a.Files, pgdsn.Files(t.Postgres.DSNFile)...)
	default:
		a.Write = append(a.Write, filepath.Dir(t.Path))
	}
	return a
}

// explain adds to the text of an error how the sandbox may have caused it.
func (s *Service) explain(text string) string {
	if !s.confined || !strings.Contains(text, syscall.EACCES.Error()) {
		return text
	}
	return text + " (the sandbox keeps the proxy to the directories that were named when it started: restart it if a file lies elsewhere now)"
}
