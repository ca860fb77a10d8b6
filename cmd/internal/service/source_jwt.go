package service

import (
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenjwt"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

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
		TLS:              tokenjwt.TLSFiles{CA: c.TLS.CA, Certificate: c.TLS.Certificate, Key: c.TLS.Key, ServerName: c.TLS.ServerName},
	}
	if c.URL == "" {
		o.Refresh = 0 // a file is looked at more often than an issuer is asked
	}
	return o
}
