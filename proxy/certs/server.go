package certs

import (
	"crypto/tls"
	"slices"
	"sync/atomic"
	"time"
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

	// Curves are the key exchanges that are accepted; Go chooses among them. Empty
	// means Go's default, which has hybrids that hold against quantum computers.
	Curves []tls.CurveID

	// Protocols are the names of the application protocol (ALPN, RFC 7301) that are
	// agreed on with clients that offer one of them. Clients that offer no name at
	// all are accepted, and so are those that offer only names that are not known here:
	// a token decides who comes in, and the firmware of a device that claims to
	// speak "mqttv3.1" cannot be changed. Only clients that want to speak HTTP, and
	// nothing in Protocols, are refused: a browser that was led here by someone
	// else must find that out before it sends a cookie.
	Protocols []string

	// Compatible also accepts, in TLS 1.2, what Go does not by itself: the exchange of
	// keys by RSA encryption, and CBC with SHA-256. The first lets anyone who gets
	// hold of the server's key read all that was recorded before; the second
	// takes a time that depends on what it decrypts. RC4 and 3DES stay refused.
	Compatible bool
}

// cipherSuites returns those of TLS 1.2, nil for Go's default.
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

// ServerConfig returns a config for servers whose every handshake uses the
// identity that is current at that moment. Tickets stay good over reloads, unless
// they stand for a client certificate that the new ClientCA file would not accept.
//
// The config is complete: its fields must not be changed afterwards. Without a
// TicketSecret file SetSessionTicketKeys may be called on it at any time.
func (s *Source) ServerConfig(o Options) *tls.Config {
	config := &tls.Config{
		MinVersion:       max(o.MinVersion, tls.VersionTLS12),
		ClientAuth:       o.ClientAuth,
		CurvePreferences: slices.Clone(o.Curves),
		CipherSuites:     o.cipherSuites(),
		NextProtos:       slices.Clone(o.Protocols),
		GetCertificate:   s.getCertificate,
		// Never nil: crypto/tls would take the system's authorities then,
		// and accept anyone who has a certificate of the public web.
		ClientCAs: s.current.Load().clientCAs,
	}
	if s.files.ClientCRL != "" {
		config.VerifyConnection = s.refuseRevoked
	}
	config.GetConfigForClient = s.configForClient(config.Clone())
	return config
}

// generation is the configs of one identity and epoch of ticket keys.
type generation struct {
	id     *identity
	epoch  int64
	config *tls.Config
	// foreign is for clients that offer only protocols that are not known here.
	foreign *tls.Config
}

// configForClient returns what chooses the config of a handshake: template with the
// current client authorities and ticket keys, which, unlike the certificate,
// crypto/tls cannot ask for by itself. It makes one for each load and epoch, not one
// a handshake.
//
// Ticket keys are those of the config that the callback is set on as long as
// the one it returns has none set explicitly. That is why template is a copy
// made before the caller can set any: keys it sets later must win.
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

// isForeign reports whether a client offers names of protocols of which none is
// known, HTTP included.
func isForeign(offered, known []string) bool {
	return !slices.ContainsFunc(offered, func(name string) bool {
		return slices.Contains(known, name) || name == "h2" || name == "http/1.1"
	})
}
