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
	access, fixed := g.access()
	switch err := sandbox.Confine(access); {
	case errors.Is(err, sandbox.ErrUnavailable):
		s.Log.Info("no sandbox", zap.Error(err))
	case err != nil:
		s.Log.Warn("no sandbox", zap.Error(err))
	default:
		s.confined = true
		s.Log.Info("confined to the directories of its files, as they are now: a file that comes to lie elsewhere needs a restart")
		s.tellDirectories(access, fixed)
	}
}

// tellDirectories logs from where new versions of files are taken up, those of the system
// aside, and which links are not followed anew.
func (s *Service) tellDirectories(a sandbox.Access, fixed []string) {
	dirs := slices.Concat(a.Read, a.Write)
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if !slices.Contains(sandbox.System(), dir) {
			s.Log.Info("new versions of files are taken up from a directory", zap.String("path", dir))
		}
	}
	for _, link := range fixed {
		s.Log.Info("a link that comes to lead elsewhere needs a restart", zap.String("path", link))
	}
}

// access lists what the service reads and writes for as long as it runs, and the links
// in the paths of its files that must not be made to lead elsewhere.
func (g *generation) access() (a sandbox.Access, fixed []string) {
	paths := g.config.Paths()
	delete(paths, "data") // a directory, which may be written to
	files := slices.Concat(g.config.Files, slices.Collect(maps.Keys(g.inputs)), slices.Collect(maps.Values(paths)))
	for _, name := range []string{"SSL_CERT_FILE", "HOSTALIASES", "ZONEINFO"} {
		if v := os.Getenv(name); v != "" {
			files = append(files, v)
		}
	}
	dirs, fixed := sandbox.Directories(files)
	a = sandbox.Access{
		Read: slices.Concat(sandbox.System(), dirs),
		// The database sorts what does not fit into memory in temporary files.
		Write: []string{g.config.Data, os.TempDir(), "/var/tmp", os.DevNull},
	}
	a.Read = append(a.Read, filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...)
	if g.upstream == nil {
		a.Write = append(a.Write, filepath.Dir(g.config.Telemetry.Path))
	}
	return a, fixed
}

// explain adds to the faults of a reload what the sandbox may have to do with them.
func (s *Service) explain(faults string) string {
	if !s.confined || !strings.Contains(faults, syscall.EACCES.Error()) {
		return faults
	}
	return faults + " (the sandbox keeps the proxy to the directories that were named when it started: restart it if a file lies elsewhere now)"
}
