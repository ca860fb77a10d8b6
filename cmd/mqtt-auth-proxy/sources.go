package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenjwt"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// sources are the token sources in the order in which they are asked.
type sources struct {
	chain    authz.Chain
	files    []*tokenfile.File
	services []*tokenService
	issuers  []*tokenjwt.Source
}

// openSources opens the token sources of the config.
func (s *service) openSources(ctx context.Context) error {
	for i, c := range s.config.Auth.Sources {
		source, err := s.openSource(ctx, c)
		if err != nil {
			return fmt.Errorf("auth.sources[%d]: %w", i, err)
		}
		s.sources.chain = append(s.sources.chain, source)
	}
	return nil
}

func (s *service) openSource(ctx context.Context, c config.Source) (authz.Authorizer, error) {
	switch {
	case c.HTTP != nil:
		return s.openTokenService(c.HTTP)
	case c.JWT != nil:
		return s.openIssuer(ctx, c.JWT)
	}
	return s.openTokenFile(c.File)
}

// reload makes every source that reads something read it now.
func (s *sources) reload(ctx context.Context) error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Reload(ctx))
	}
	for _, j := range s.issuers {
		errs = append(errs, j.Reload(ctx))
	}
	return errors.Join(errs...)
}

// forget makes the caches forget what r means. Files and issuers are asked every
// time: what they say is changed where it stands.
func (s *sources) forget(r authz.Revocation, deny bool) (entries int, err error) {
	if deny && len(s.services) == 0 {
		return 0, errors.New("mode deny is for token services: withdraw the tokens of a token file with mqtt-auth-proxy token disable or revoke")
	}
	for _, service := range s.services {
		entries += service.answers.Revoke(r, deny)
	}
	return entries, nil
}

// purge empties the caches.
func (s *sources) purge() (entries int) {
	for _, service := range s.services {
		entries += service.answers.Purge()
	}
	return entries
}

func (s *sources) close() {
	for _, service := range s.services {
		service.close()
	}
	for _, j := range s.issuers {
		j.Close()
	}
}

// jwtOptions turns the config of an issuer into options.
func jwtOptions(c *config.JWTSource) tokenjwt.Options {
	o := tokenjwt.Options{
		Keys:             tokenjwt.Keys{URL: c.URL, File: c.JWKSFile, PEM: c.PublicKeyFile, Secret: c.SecretFile},
		StartWithoutKeys: c.StartWithoutKeys,
		Refresh:          c.Refresh,
		Algorithms:       c.Algorithms,
		Issuers:          c.Issuers,
		Audiences:        c.Audiences,
		AnyAudience:      c.AnyAudience,
		Leeway:           orNone(c.Leeway),
		AllowNoExpiry:    c.AllowNoExpiry,
		Subject:          c.Subject,
		ClientID:         c.ClientID,
		Username:         c.Username,
		ACL:              c.ACL,
		Attrs:            pairs(c.Attrs, "="),
	}
	if c.URL == "" {
		o.Refresh = 0 // a file is looked at more often than an issuer is asked
	}
	return o
}

func (s *service) openIssuer(ctx context.Context, c *config.JWTSource) (authz.Authorizer, error) {
	j, err := tokenjwt.Open(ctx, jwtOptions(c))
	if err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	s.sources.issuers = append(s.sources.issuers, j)
	return j, nil
}
