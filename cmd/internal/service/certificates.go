package service

import (
	"crypto/tls"
	"errors"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/certs"
)

// certificates is the identity of one TLS listener, or of the admin side.
type certificates struct {
	source    *certs.Source
	authority *certs.Authority // nil if the operator provides the files
	tls       *tls.Config
}

// openCertificates loads the identity of a TLS listener. If tls.auto is set, the authority
// makes the certificate.
func openCertificates(c *config.ListenerTLS, authority *certs.Authority, protocols []string) (*certificates, error) {
	own, files := &certificates{}, certificateFiles(c)
	if c.Auto {
		own.authority = authority
		if _, err := own.authority.Ensure(); err != nil {
			return nil, err
		}
		made := own.authority.Files()
		files.Certificate, files.Key = made.Certificate, made.Key
	}
	var err error
	if own.source, err = certs.Load(files); err != nil {
		return nil, err
	}
	own.tls = own.source.ServerConfig(certs.Options{
		MinVersion: tlsVersion(c.MinVersion),
		ClientAuth: clientAuth(c.ClientAuth),
		Curves:     curves(c.Curves),
		Protocols:  protocols,
		Compatible: c.Compatibility,
	})
	return own, nil
}

// certificateFiles returns the files in the configuration of a listener. If it has only a list
// of certificates, the first of them is the main one.
func certificateFiles(c *config.ListenerTLS) certs.Files {
	files := certs.Files{
		Certificate: c.Certificate, Key: c.Key,
		ClientCA: c.ClientCA, ClientCRL: c.ClientCRL, TicketSecret: c.TicketSecretFile,
	}
	for i, p := range c.Certificates {
		if i == 0 && c.Certificate == "" && !c.Auto {
			files.Certificate, files.Key = p.Certificate, p.Key
			continue
		}
		files.Others = append(files.Others, certs.Pair(p))
	}
	return files
}

// ownAuthority returns the authority that signs for auto listeners.
func ownAuthority(c *config.Config) *certs.Authority {
	return &certs.Authority{Dir: filepath.Join(c.Data, "tls")}
}

// refresh renews the certificate of the own authority if it expires soon, and loads files that
// have changed: at once if now is set, and otherwise if they have not changed since the last
// call. It reports whether something new is in use, and whether that may be so after the next
// call.
func (c *certificates) refresh(now bool) (changed, pending bool, err error) {
	if c.authority != nil {
		_, err = c.authority.Ensure()
	}
	var loadErr error
	if now {
		changed, loadErr = c.source.Reload()
	} else {
		changed, pending, loadErr = c.source.Poll()
	}
	return changed, pending, errors.Join(err, loadErr)
}

// identity is the identity of a listener.
type identity struct {
	listener string // its name
	key      string // of its TLS section in the configuration
	*certificates
}

// identities returns the identities of all listeners and of the admin side.
func (g *generation) identities() (all []identity) {
	for i, l := range g.listeners {
		if l.identity != nil {
			all = append(all, identity{l.config.Name, listenerKey(i) + ".tls", l.identity})
		}
	}
	if g.admin.identity != nil {
		all = append(all, identity{g.admin.socket.label, "admin.tls", g.admin.identity})
	}
	return all
}

// certificatesChanged logs what is new in an identity, and ends the sessions whose client
// certificates are no longer accepted.
func (s *Service) certificatesChanged(own identity, before certs.Version) {
	source, listener := own.source, zap.String("listener", own.listener)
	now := source.Version()
	if now.Certificates != before.Certificates {
		s.Log.Info("new certificate", listener, zap.Time("not_after", source.Leaf().NotAfter))
		s.warnOfRSA(own.listener, own.certificates)
	}
	if now.ClientCA != before.ClientCA {
		s.Log.Info("new client CA certificates", listener, zap.Int("certificates", len(source.ClientCAs())))
	}
	if now.ClientCRL != before.ClientCRL {
		s.Log.Info("new certificate revocation lists", listener, zap.Int("revoked", source.Revoked()))
	}
	if now.TicketSecret != before.TicketSecret {
		s.Log.Info("new secret for session tickets", listener)
	}
	if now.ClientCA != before.ClientCA || now.ClientCRL != before.ClientCRL {
		s.reviewCertificates()
	}
}

// curves returns the key exchanges with those names.
func curves(names []string) []tls.CurveID {
	known := map[string]tls.CurveID{
		"X25519MLKEM768": tls.X25519MLKEM768, "SecP256r1MLKEM768": tls.SecP256r1MLKEM768, "SecP384r1MLKEM1024": tls.SecP384r1MLKEM1024,
		"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521,
	}
	var ids []tls.CurveID
	for _, name := range names {
		ids = append(ids, known[name])
	}
	return ids
}

// clientAuth translates the value of client_auth.
func clientAuth(name string) tls.ClientAuthType {
	switch name {
	case "request":
		return tls.VerifyClientCertIfGiven
	case "require":
		return tls.RequireAndVerifyClientCert
	}
	return tls.NoClientCert
}

// tlsVersion translates the value of min_version.
func tlsVersion(name string) uint16 {
	if name == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}
