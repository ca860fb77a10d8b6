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

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sandbox"
)

// confine takes from the process the right to use files that the service does not
// need. It is called when everything is open.
func (s *Service) confine() {
	g := s.current.Load()
	if g.config.Sandbox == "off" {
		return
	}
	switch err := sandbox.Confine(g.access()); {
	case errors.Is(err, sandbox.ErrUnavailable):
		s.Log.Info("no sandbox", zap.Error(err))
	case err != nil:
		s.Log.Warn("no sandbox", zap.Error(err))
	default:
		s.confined = true
		s.Log.Debug("confined to the directories of its files")
	}
}

// access lists what the service reads and writes for as long as it runs.
func (g *generation) access() sandbox.Access {
	files := slices.Concat(g.config.Files, slices.Collect(maps.Keys(g.inputs)), slices.Collect(maps.Values(g.config.Paths())))
	for _, name := range []string{"SSL_CERT_FILE", "HOSTALIASES", "ZONEINFO"} {
		if v := os.Getenv(name); v != "" {
			files = append(files, v)
		}
	}
	a := sandbox.Access{
		Read: slices.Concat(sandbox.System(), sandbox.Directories(files)),
		// The database sorts what does not fit into memory in temporary files.
		Write: []string{g.config.Data, os.TempDir(), "/var/tmp", os.DevNull},
	}
	a.Read = append(a.Read, filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...)
	if g.upstream == nil {
		a.Write = append(a.Write, filepath.Dir(g.config.Telemetry.Path))
	}
	return a
}

// explain adds to the faults of a reload what the sandbox may have to do with them.
func (s *Service) explain(faults string) string {
	if !s.confined || !strings.Contains(faults, syscall.EACCES.Error()) {
		return faults
	}
	return faults + " (the sandbox keeps the proxy to the directories that were named when it started: restart it if a file lies elsewhere now)"
}
