package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

const (
	// demoDevice is the device that a first start of the bundled broker makes.
	demoDevice = "demo"
	// demoLife is how long its token is good: long enough to try the program, while a
	// token that everybody has seen who reads the log is no way in for ever.
	demoLife = 24 * time.Hour
)

func (d *draft) openTokenFile(c *config.FileSource) (*tokenfile.File, error) {
	s := d.service
	if d.old.policy == nil && isFirstStart(d.config, c.Path) {
		created, err := tokenfile.Create(c.Path, tokenfile.CreateOptions{
			Name: demoDevice, Expires: time.Now().Add(demoLife), Comment: "made on first start; revoke it when it is not needed any more",
		})
		if err != nil {
			return nil, fmt.Errorf("make the demo device: %w", err)
		}
		s.demo = d.introduce(created)
	}
	f, err := tokenfile.Open(c.Path, tokenfile.Options{OnReload: s.reportTokens(c.Path)})
	if err != nil {
		return nil, MissingTokenFile(c.Path, err)
	}
	return f, nil
}

// isFirstStart reports whether this is the embedded default on a fresh data
// directory. In front of a broker of one's own a demo device would be a way in
// that nobody asked for.
func isFirstStart(c *config.Config, path string) bool {
	if !c.Upstream.Bundled() || filepath.Dir(path) != c.Data {
		return false
	}
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// MissingTokenFile says what to do about a token file that is not there, and returns
// every other error as it is.
func MissingTokenFile(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no token file %s: make one with: mqtt-auth-proxy token create NAME --file %s", path, shellWord(path))
	}
	return err
}

// advise says how to have a token file accepted that lacks most of its entries, and
// returns every other error as it is.
func advise(err error) error {
	if _, ok := errors.AsType[*tokenfile.ShrinkError](err); ok {
		return fmt.Errorf("%w (send SIGHUP or POST /v1/reload to reload)", err)
	}
	return err
}

// reportTokens logs and counts what becomes of each version of a token file.
func (s *Service) reportTokens(path string) func(tokenfile.Reload) {
	return func(r tokenfile.Reload) {
		for _, w := range r.Warnings {
			s.Log.Warn("token file", zap.String("path", path), zap.String("warning", w))
		}
		if r.Err != nil {
			s.counters.tokenReloads.WithLabelValues("rejected").Inc()
			s.Log.Error("token file rejected, the tokens in force stay", zap.String("path", path), zap.String("error", s.explain(textOf(advise(r.Err)))))
			return
		}
		s.counters.tokenReloads.WithLabelValues("accepted").Inc()
		if r.Trusted != "" {
			s.Log.Warn("token file accepted although most entries are gone", zap.String("path", path), zap.String("because", r.Trusted))
		}
		s.Log.Info("token file", zap.String("path", path), zap.Int("entries", r.Entries),
			zap.Int("added", r.Added), zap.Int("removed", r.Removed), zap.Int("changed", r.Changed), zap.Int("revoked", r.Revoked))
	}
}
