package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// fileSource is a token file. The entries that have a user name and a password are behind a
// cache.
type fileSource struct {
	*tokenfile.File // nil until it is open
	users           *cache.Cache
	path            string
	env             sourceEnv
}

func newFileSource(c *config.FileSource) source { return &fileSource{path: c.Path} }

// Open implements source.
func (f *fileSource) Open(_ context.Context, env sourceEnv) (err error) {
	f.env = env
	f.File, err = tokenfile.Open(f.path, tokenfile.Options{OnReload: f.logReload})
	if err == nil {
		f.users = cachePasswords(f.Users(env.workers), f.path, env.workers)
	}
	return MissingTokenFile(f.path, err)
}

// Takes implements source. User names and passwords are looked at only while the file has any.
func (f *fileSource) Takes() authz.Credentials {
	if f.HasUsers() {
		return authz.Tokens | authz.Pairs
	}
	return authz.Tokens
}

// Authorize implements authz.Authorizer.
func (f *fileSource) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	return authz.Chain{f.File, f.users}.Authorize(ctx, r)
}

// Notify implements authz.Notifier.
func (f *fileSource) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	return f.users.Notify(ctx, revoked)
}

// Probe implements prober. A first start creates the file.
func (f *fileSource) Probe(c *config.Config) error {
	if f.path == demoFile(c) {
		return nil
	}
	_, err := tokenfile.Open(f.path, tokenfile.Options{})
	return MissingTokenFile(f.path, err)
}

// Fault implements source.
func (f *fileSource) Fault() error { return advise(f.Status().Err) }

// LogsFaults implements faultLogger.
func (f *fileSource) LogsFaults() {}

// AnswersFromMemory implements local.
func (f *fileSource) AnswersFromMemory() {}

// Close implements source. A token file is open only during Notify.
func (f *fileSource) Close() {
	if f.users != nil {
		f.users.Close()
	}
}

// Collect implements source.
func (f *fileSource) Collect(m observe.SourceMetrics) {
	s := f.Status()
	m.TokenFile(s.Entries, s.Loaded)
}

// report implements reporter.
func (f *fileSource) report(to *admin.Status) {
	s := f.Status()
	to.TokenFiles = append(to.TokenFiles, admin.FileStatus{
		Path: s.Path, Entries: s.Entries, Fingerprint: s.Fingerprint, Loaded: s.Loaded.UTC(), Error: textOf(f.Fault()), Warnings: s.Warnings,
	})
}

// logReload logs and counts the result of reading a version of the file.
func (f *fileSource) logReload(r tokenfile.Reload) {
	f.env.fileRead(r.Entries)
	log, path := f.env.log, zap.String("path", f.path)
	for _, w := range r.Warnings {
		log.Warn("token file", path, zap.String("warning", w))
	}
	if r.Err != nil {
		f.env.observer.TokenFileReloaded(false)
		log.Error("token file rejected, the previous tokens stay in force", path, zap.String("error", f.env.explain(textOf(advise(r.Err)))))
		return
	}
	f.env.observer.TokenFileReloaded(true)
	if r.Trusted != "" {
		log.Warn("token file accepted although most entries are gone", path, zap.String("because", r.Trusted))
	}
	log.Info("token file", path, zap.Int("entries", r.Entries),
		zap.Int("added", r.Added), zap.Int("removed", r.Removed), zap.Int("changed", r.Changed), zap.Int("revoked", r.Revoked))
}

// MissingTokenFile says what to do about a token file that is not there, and returns
// every other error as it is.
func MissingTokenFile(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no token file %s: make one with: mqtt-auth-proxy token create NAME --file %s", path, shellWord(path))
	}
	return err
}

// advise adds how to have a token file accepted that lacks most of its entries. It returns
// every other error unchanged.
func advise(err error) error {
	if _, ok := errors.AsType[*tokenfile.ShrinkError](err); ok {
		return fmt.Errorf("%w (send SIGHUP or POST /v1/reload to reload)", err)
	}
	return err
}
