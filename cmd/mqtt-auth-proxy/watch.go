package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// pollInterval is how often files other than token files are looked at.
const pollInterval = 10 * time.Second

// watch starts what follows the files that may change while the service runs.
func (s *service) watch(ctx context.Context) {
	s.running.Go(func() { s.watchTokens(ctx) })
	s.running.Go(func() { s.watchFiles(ctx) })
}

// watchTokens ends the sessions of tokens that are withdrawn.
func (s *service) watchTokens(ctx context.Context) {
	if err := s.sources.chain.Notify(ctx, s.revoke); err != nil {
		s.fail(fmt.Errorf("watch the token sources: %w", err))
	}
}

func (s *service) revoke(r authz.Revocation) {
	n := s.server.Kick(func(c *proxy.Client) bool { return r.Matches(c.Grant, c.TokenHash) }, proxy.ErrRevoked)
	s.revocations.WithLabelValues("source").Inc()
	s.log.Info("revoked", zap.String("token_id", r.TokenID), zap.String("subject", r.Subject), zap.Int("sessions", n))
}

func (s *service) watchFiles(ctx context.Context) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var reported string
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// The same fault is told once, not every ten seconds.
		faults := textOf(s.refreshFiles())
		if faults != "" && faults != reported {
			s.lastReload.Store(&reloadStatus{At: time.Now().UTC(), Error: faults})
			s.log.Error("reload failed, what was in force stays", zap.String("error", faults))
		}
		reported = faults
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// refreshFiles takes up new certificates.
func (s *service) refreshFiles() error {
	var errs []error
	for _, c := range s.certs {
		changed, err := c.refresh()
		if changed {
			s.log.Info("new certificate", zap.String("listener", c.label), zap.Time("not_after", c.source.Leaf().NotAfter))
		}
		errs = append(errs, err)
	}
	if s.upstream != nil {
		errs = append(errs, s.upstream.tls.Reload())
	}
	return errors.Join(errs...)
}

// reload is what SIGHUP and the admin side ask for. Faults are logged here, since a
// signal has nobody to tell.
func (s *service) reload(ctx context.Context) error {
	err := errors.Join(s.refreshFiles(), s.sources.reload(ctx))
	s.lastReload.Store(&reloadStatus{At: time.Now().UTC(), Error: textOf(err)})
	if err != nil {
		s.log.Error("reload failed, what was in force stays", zap.String("error", textOf(err)))
		return err
	}
	s.log.Info("reloaded")
	return nil
}
