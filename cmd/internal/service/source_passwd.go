package service

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwdfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// passwdSource is a password file of another program, behind a cache of its own.
type passwdSource struct {
	*passwdfile.File // nil until it is open
	answers          *cache.Cache
	config           *config.PasswdSource
	env              sourceEnv
}

func newPasswdSource(c *config.PasswdSource) source { return &passwdSource{config: c} }

// cachePasswords puts a file that checks passwords behind a cache. The file reports its
// changes, so that an answer holds for as long as a cache keeps any, whatever auth.cache says
// of services. There can be no more grants than users. The places of the cache are those of
// the workers: half of them stay free for devices that were good before.
func cachePasswords(file authz.Authorizer, path string, w *passwordhash.Workers) *cache.Cache {
	const unbounded = 1 << 30
	return cache.New(file, cache.Options{
		Source: path, Watched: true, Size: unbounded, TTL: cache.MaxTTL, Stale: -1, Concurrency: w.Size(),
	})
}

// Takes implements source.
func (p *passwdSource) Takes() authz.Credentials { return authz.Pairs }

// Open implements source.
func (p *passwdSource) Open(_ context.Context, env sourceEnv) (err error) {
	p.env = env
	p.File, err = passwdfile.Open(p.config.Path, passwdfile.Options{
		Format: passwdfile.Format(p.config.Format), Workers: env.workers, OnReload: p.logReload,
	})
	if err == nil {
		p.answers = cachePasswords(p.File, p.config.Path, env.workers)
	}
	return err
}

// Probe implements prober.
func (p *passwdSource) Probe(*config.Config) error {
	_, err := passwdfile.Open(p.config.Path, passwdfile.Options{Format: passwdfile.Format(p.config.Format)})
	return err
}

// Authorize implements authz.Authorizer.
func (p *passwdSource) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	return p.answers.Authorize(ctx, r)
}

// Notify implements authz.Notifier.
func (p *passwdSource) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	return p.answers.Notify(ctx, revoked)
}

// Fault implements source.
func (p *passwdSource) Fault() error { return adviseReload(p.Status().Err) }

// LogsFaults implements faultLogger.
func (p *passwdSource) LogsFaults() {}

// AnswersFromMemory implements local.
func (p *passwdSource) AnswersFromMemory() {}

// Close implements source.
func (p *passwdSource) Close() {
	if p.answers != nil {
		p.answers.Close()
	}
}

// Collect implements source.
func (p *passwdSource) Collect(m observe.SourceMetrics) {
	s := p.Status()
	m.TokenFile(s.Entries, s.Loaded)
	m.Cache(p.answers.Stats(), 0)
}

// report implements reporter.
func (p *passwdSource) report(to *admin.Status) {
	s := p.Status()
	to.PasswordFiles = append(to.PasswordFiles, admin.FileStatus{
		Path: s.Path, Entries: s.Entries, Fingerprint: s.Fingerprint, Loaded: s.Loaded.UTC(), Error: textOf(p.Fault()),
	})
}

// logReload logs and counts what became of a version of the file.
func (p *passwdSource) logReload(r passwdfile.Reload) {
	p.env.fileRead(r.Entries)
	log, path := p.env.log, zap.String("path", p.config.Path)
	p.env.observer.TokenFileReloaded(r.Err == nil)
	if r.Err != nil {
		log.Error("password file rejected, the passwords in force stay", path, zap.String("error", p.env.explain(textOf(adviseReload(r.Err)))))
		return
	}
	log.Info("password file", path, zap.Int("entries", r.Entries),
		zap.Int("added", r.Added), zap.Int("removed", r.Removed), zap.Int("changed", r.Changed))
}

// adviseReload says how to have a password file accepted that lacks most of its lines, and
// returns every other error as it is.
func adviseReload(err error) error {
	if _, ok := errors.AsType[*passwdfile.ShrinkError](err); ok {
		return fmt.Errorf("%w (send SIGHUP or POST /v1/reload to reload)", err)
	}
	return err
}
