package certs

import (
	"crypto/tls"
	"sync/atomic"
)

// Options are what a listener may choose about its TLS. The zero value is TLS
// 1.2 and 1.3 without client certificates.
type Options struct {
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13. Zero, and anything
	// lower, means TLS 1.2 (RFC 8996 forbids what came before).
	MinVersion uint16

	// ClientAuth says whether devices show a certificate. Those that are
	// verified are verified against the ClientCA file alone: without one,
	// every certificate is refused.
	ClientAuth tls.ClientAuthType
}

// ServerConfig returns a config for servers whose every handshake uses the
// identity that is current at that moment. Cipher suites, curves and session
// tickets are Go's defaults. Tickets stay good over reloads, unless they stand
// for a client certificate that the new ClientCA file would not accept.
//
// The config is complete: its fields must not be changed afterwards.
// SetSessionTicketKeys may be called on it at any time, to share tickets among
// several proxies.
func (s *Source) ServerConfig(o Options) *tls.Config {
	config := &tls.Config{
		MinVersion:     max(o.MinVersion, tls.VersionTLS12),
		ClientAuth:     o.ClientAuth,
		GetCertificate: s.getCertificate,
		// Never nil: crypto/tls would take the system's authorities then,
		// and let in whoever has a certificate of the public web.
		ClientCAs: s.current.Load().clientCAs,
	}
	if s.files.ClientCRL != "" {
		config.VerifyConnection = s.refuseRevoked
	}
	if s.files.ClientCA != "" {
		config.GetConfigForClient = s.configForClient(config.Clone())
	}
	return config
}

// configForClient returns template with the current client authorities, which,
// unlike the certificate, crypto/tls cannot ask for by itself. It makes one
// config for each load, not one a handshake.
//
// Ticket keys are those of the config that the callback is set on as long as
// the one it returns has none set explicitly. That is why template is a copy
// made before the caller can set any: keys it sets later must win.
func (s *Source) configForClient(template *tls.Config) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	type generation struct {
		id     *identity
		config *tls.Config
	}
	var latest atomic.Pointer[generation]
	return func(*tls.ClientHelloInfo) (*tls.Config, error) {
		id := s.current.Load()
		if g := latest.Load(); g != nil && g.id == id {
			return g.config, nil
		}
		config := template.Clone()
		config.ClientCAs = id.clientCAs
		latest.Store(&generation{id, config})
		return config, nil
	}
}
