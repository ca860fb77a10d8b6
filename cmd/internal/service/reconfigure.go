package service

import (
	"context"
	"errors"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// changedOnDisk returns a digest of the configuration on disk and of the files that it uses, or
// "" if they are those in force.
func (s *Service) changedOnDisk() string {
	options, in := s.Config, s.current.Load()
	hash := in.config.Hash
	c, err := config.Load(options)
	var faults *config.Error
	switch {
	case err == nil:
		hash = c.Hash
	case errors.As(err, &faults):
		hash = faults.Hash
	}
	if hash == in.config.Hash && !in.inputs.changed() {
		return ""
	}
	return hash + " " + in.inputs.sum()
}

// reconfigure puts the configuration on disk into force, all of it or nothing. It reports
// whether it has changed.
func (s *Service) reconfigure(ctx context.Context) (changed bool, err error) {
	if s.changedOnDisk() == "" {
		return false, nil
	}
	options, old := s.Config, s.current.Load()
	options.Whole = true
	p, err := Load(options, s.Version)
	if err != nil {
		return false, err
	}
	if err := needsRestart(old.config, p.Config); err != nil {
		p.Close()
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	next, err := s.prepare(ctx, p, old)
	if err != nil {
		return false, err
	}
	if err := s.install(next); err != nil {
		return false, next.discard(p, old, err)
	}
	s.warn()
	s.warnOfExpiry()
	return true, nil
}

// prepareTimeout is how long the sources of a new configuration may take to open.
const prepareTimeout = 30 * time.Second

// refreshCertificates puts new certificates into use, see certificates.refresh.
func (s *Service) refreshCertificates(now bool) (changed, pending bool, err error) {
	var errs []error
	in := s.current.Load()
	for _, own := range in.identities() {
		before := own.source.Version()
		renewed, more, err := own.refresh(now)
		pending = pending || more
		if renewed {
			changed = true
			s.certificatesChanged(own, before)
		}
		if err != nil {
			errs = append(errs, faultAt(in.config, own.key, err))
		}
	}
	if in.upstream != nil {
		if err := in.upstream.tls.Reload(); err != nil {
			errs = append(errs, faultAt(in.config, "upstream.tls", err))
		}
	}
	if changed {
		s.warnOfExpiry()
	}
	return changed, pending, errors.Join(errs...)
}
