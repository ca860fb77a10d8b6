package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenjwt"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// jwtSource checks JSON Web Tokens with the keys of an issuer.
type jwtSource struct {
	*tokenjwt.Source // nil until it is open
	config           *config.JWTSource
}

func newJWTSource(c *config.JWTSource) (source, error) {
	return &jwtSource{config: c}, jwtOptions(c).Check()
}

// Takes implements source.
func (j *jwtSource) Takes() authz.Credentials { return authz.Tokens }

// Probe implements prober.
func (j *jwtSource) Probe(*config.Config) error {
	if j.config.StartWithoutKeys {
		return nil
	}
	return jwtOptions(j.config).Probe()
}

// Open implements source.
func (j *jwtSource) Open(ctx context.Context, _ sourceEnv) (err error) {
	if j.Source, err = tokenjwt.Open(ctx, jwtOptions(j.config)); errors.Is(err, tokenjwt.ErrNoKeys) {
		return fmt.Errorf("%w; set start_without_keys: true to start before they can be read", err)
	}
	return err
}

// Fault implements source. An issuer that cannot be reached is no fault, because its keys stay
// valid until it can be reached again.
func (j *jwtSource) Fault() error {
	if j.config.URL != "" {
		return nil
	}
	return j.Stats().Err
}

// Health implements monitored. While the keys cannot be read, those that are known still hold.
func (j *jwtSource) Health() (up bool, since time.Time, err error) {
	s := j.Stats()
	return s.Keys > 0, s.LastSuccess, s.Err
}

// Close implements source.
func (j *jwtSource) Close() {
	if j.Source != nil {
		j.Source.Close()
	}
}

// AnswersFromMemory implements local.
func (j *jwtSource) AnswersFromMemory() {}

// Collect implements source.
func (j *jwtSource) Collect(m observe.SourceMetrics) { m.Issuer(j.Stats()) }

// jwtOptions translates the config of an issuer.
func jwtOptions(c *config.JWTSource) tokenjwt.Options {
	o := tokenjwt.Options{
		Keys:             tokenjwt.Keys{URL: c.URL, File: c.JWKSFile, PEM: c.PublicKeyFile, Secret: c.SecretFile},
		StartWithoutKeys: c.StartWithoutKeys,
		Refresh:          c.Refresh,
		Algorithms:       c.Algorithms,
		Issuers:          c.Issuers,
		Audiences:        c.Audiences,
		AnyAudience:      c.AnyAudience,
		Leeway:           c.Leeway,
		AllowNoExpiry:    c.AllowNoExpiry,
		Subject:          c.Subject,
		ClientID:         c.ClientID,
		Username:         c.Username,
		ACL:              c.ACL,
		Limits:           c.Limits,
		Role:             c.Role,
		Gateway:          c.Gateway,
		Attrs:            pairs(c.Attrs, "="),
		TLS:              tokenjwt.TLSFiles{CA: c.TLS.CA, Certificate: c.TLS.Certificate, Key: c.TLS.Key, ServerName: c.TLS.ServerName},
	}
	if c.URL == "" {
		o.Refresh = 0 // a file is read again more often than an issuer is asked
	}
	return o
}
