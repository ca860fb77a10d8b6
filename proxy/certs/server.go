package certs

import (
	"crypto/tls"
	"slices"
	"sync/atomic"
	"time"
)

// Options are the TLS options of a listener. The zero value means TLS 1.2 and 1.3 without
// client certificates.
type Options struct {
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13. Lower values, including zero, mean
	// TLS 1.2 (RFC 8996 forbids earlier versions).
	MinVersion uint16

	// ClientAuth says whether devices present a certificate. Certificates are verified against
	// the ClientCA file only: without that file, every certificate is refused.
	ClientAuth tls.ClientAuthType

	// Curves are the key exchanges that are accepted; Go chooses among them. Empty means Go's
	// default, which includes hybrids that resist quantum computers.
	Curves []tls.CurveID

	// Protocols are the names of the application protocol (ALPN, RFC 7301) that may be
	// negotiated. A client that offers no name is accepted, and so is one that offers only
	// unknown names, because the token decides about access and the firmware of a device that
	// offers "mqttv3.1" cannot be changed. Only a client that offers HTTP, and nothing in
	// Protocols, is refused: a browser that a foreign page directed here must find out before
	// it sends a cookie.
	Protocols []string

	// Compatible also enables key exchange by RSA encryption and CBC with SHA-256 in TLS 1.2,
	// which Go disables by default. With the first, anyone who obtains the server's key can
	// decrypt all recorded connections; the second has a timing side channel. RC4 and 3DES stay
	// disabled.
	Compatible bool
}

// cipherSuites returns the cipher suites for TLS 1.2, or nil for Go's default.
func (o Options) cipherSuites() []uint16 {
	if !o.Compatible {
		return nil
	}
	var ids []uint16
	for _, suite := range tls.CipherSuites() {
		ids = append(ids, suite.ID)
	}
	return append(ids,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
}

// ServerConfig returns a config that uses the current identity for every handshake. Tickets
// stay valid over reloads, unless they stand for a client certificate that the new ClientCA
// file would not accept.
//
// The config is complete: its fields must not be changed afterwards. If there is no
// TicketSecret file, SetSessionTicketKeys may be called on it at any time.
func (s *Source) ServerConfig(o Options) *tls.Config {
	config := &tls.Config{
		MinVersion:       max(o.MinVersion, tls.VersionTLS12),
		ClientAuth:       o.ClientAuth,
		CurvePreferences: slices.Clone(o.Curves),
		CipherSuites:     o.cipherSuites(),
		NextProtos:       slices.Clone(o.Protocols),
		GetCertificate:   s.getCertificate,
		// This is never nil. With nil, crypto/tls would use the system's authorities and accept
		// every certificate of the public web.
		ClientCAs: s.current.Load().clientCAs,
	}
	if s.files.ClientCRL != "" {
		config.VerifyConnection = s.refuseRevoked
	}
	config.GetConfigForClient = s.configForClient(config.Clone())
	return config
}

// generation has the configs for one identity and one epoch of ticket keys.
type generation struct {
	id     *identity
	epoch  int64
	config *tls.Config
	// foreign is for clients that offer only unknown protocols.
	foreign *tls.Config
}

// configForClient returns the callback that chooses the config of a handshake: template with
// the current client authorities and ticket keys. For these, unlike for the certificate,
// crypto/tls has no callback. A config is made for each load and epoch, not for each handshake.
//
// crypto/tls uses the ticket keys of the config that has the callback, unless the returned
// config has explicit ones. template is therefore a copy made before the caller can set keys:
// keys that the caller sets later must take effect.
func (s *Source) configForClient(template *tls.Config) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	var latest atomic.Pointer[generation]
	return func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		id, epoch := s.current.Load(), int64(0)
		if id.ticketSecret != nil {
			epoch = epochOf(time.Now())
		}
		g := latest.Load()
		if g == nil || g.id != id || g.epoch != epoch {
			var err error
			if g, err = newGeneration(template, id, epoch); err != nil {
				return nil, err
			}
			latest.Store(g)
		}
		if isForeign(hello.SupportedProtos, template.NextProtos) {
			return g.foreign, nil
		}
		return g.config, nil
	}
}

func newGeneration(template *tls.Config, id *identity, epoch int64) (*generation, error) {
	g := &generation{id: id, epoch: epoch, config: template.Clone()}
	g.config.ClientCAs = id.clientCAs
	if id.ticketSecret != nil {
		keys, err := id.ticketKeys(template.ClientAuth, epoch)
		if err != nil {
			return nil, err
		}
		g.config.SetSessionTicketKeys(keys)
	}
	g.foreign = g.config.Clone()
	g.foreign.NextProtos = nil
	return g, nil
}

// isForeign reports whether a client offers protocols of which none is known, HTTP included.
func isForeign(offered, known []string) bool {
	return !slices.ContainsFunc(offered, func(name string) bool {
		return slices.Contains(known, name) || name == "h2" || name == "http/1.1"
	})
}
