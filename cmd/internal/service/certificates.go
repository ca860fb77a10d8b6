package service

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/certs"
)

// certificates are the identity of one TLS listener.
type certificates struct {
	source    *certs.Source
	authority *certs.Authority // nil for files of somebody else's
	tls       *tls.Config
}

// openCertificates loads the identity of a TLS listener. If the listener is to make its
// certificate itself, the authority signs it.
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

// certificateFiles returns the files that the config of a listener names. Without a
// certificate of its own the first of the others stands for it.
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

// refresh renews and reloads. It reports whether something new is in service, or,
// where haste is not asked for, may be after the next call.
func (c *certificates) refresh(haste bool) (changed, pending bool, err error) {
	if c.authority != nil {
		_, err = c.authority.Ensure()
	}
	var loadErr error
	if haste {
		changed, loadErr = c.source.Reload()
	} else {
		changed, pending, loadErr = c.source.Poll()
	}
	return changed, pending, errors.Join(err, loadErr)
}

// tookUp tells what is new of a listener's identity, and ends the sessions whose client
// certificates are no longer accepted.
func (s *Service) tookUp(l *listener, before certs.Version) {
	source, listener := l.identity.source, zap.String("listener", l.config.Name)
	now := source.Version()
	if now.Certificates != before.Certificates {
		s.Log.Info("new certificate", listener, zap.Time("not_after", source.Leaf().NotAfter))
		s.warnOfRSA(l)
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
		s.holdCertificates()
	}
}

// holdCertificates ends the live sessions whose client certificates the listeners in
// force would no longer accept.
func (s *Service) holdCertificates() {
	in := s.current.Load()
	if n := s.server.Kick(func(c *proxy.Client) bool { return in.checkCertificate(c) != nil }, proxy.ErrRevoked); n > 0 {
		s.Log.Info("sessions ended with their client certificates", zap.Int("sessions", n))
	}
}

// errCertificate is why a session ends whose client certificate was good before.
var errCertificate = errors.New("the client certificate has been revoked, or its authority is no longer accepted")

// checkCertificate returns an error if the client's certificate is not accepted by its
// listener as it is now. For a listener that is gone, or has another name now, it counts
// whether the lists of any other revoke the certificate.
func (g *generation) checkCertificate(c *proxy.Client) error {
	chains := c.VerifiedChains()
	if len(chains) == 0 {
		return nil
	}
	var named, accepted, revoked bool
	for _, l := range g.listeners {
		if l.identity == nil {
			continue
		}
		revoked = revoked || l.identity.source.Revokes(chains)
		if l.config.Name == c.Listener {
			named, accepted = true, accepted || l.identity.source.Accepts(chains)
		}
	}
	if named && !accepted || !named && revoked {
		return errCertificate
	}
	return nil
}

const (
	// warnEvery is how often the end of certificates is told again.
	warnEvery = 24 * time.Hour
	// endsSoon is how long before their end that begins: time enough to reach whoever
	// issues them, and twice what an automatic renewal leaves.
	endsSoon = 14 * 24 * time.Hour
)

// warnOfExpiry tells which certificates and client authorities have ended or soon do.
func (s *Service) warnOfExpiry() {
	for _, l := range s.current.Load().listeners {
		if l.identity == nil {
			continue
		}
		for _, leaf := range l.identity.source.Leaves() {
			s.warnOf("the server certificate", l.config.Name, leaf)
		}
		for _, ca := range l.identity.source.ClientCAs() {
			s.warnOf("a client CA certificate", l.config.Name, ca)
		}
	}
}

func (s *Service) warnOf(what, listener string, cert *x509.Certificate) {
	what += " ends soon"
	switch left := time.Until(cert.NotAfter); {
	case left <= 0:
		what = strings.TrimSuffix(what, "ends soon") + "has ended"
	case left > endsSoon:
		return
	}
	s.Log.Warn(what, zap.String("listener", listener), zap.Stringer("certificate", cert.Subject), zap.Time("not_after", cert.NotAfter))
}

// rsaAdvice is what a listener's certificate with an RSA key costs.
const rsaAdvice = "the server certificate has an RSA key: an ECDSA P-256 key makes a handshake several times cheaper"

// rsaWarnings returns the advice for every listener that needs it.
func rsaWarnings(c *config.Config) (all []config.Fault) {
	for i, l := range c.Listeners {
		if l.TLS == nil || l.TLS.Auto {
			continue
		}
		if source, err := certs.Load(certificateFiles(l.TLS)); err == nil && source.RSA() {
			all = append(all, c.Fault(listenerKey(i)+".tls.certificate", rsaAdvice))
		}
	}
	return all
}

// warnOfRSA tells what a certificate costs that has just been loaded.
func (s *Service) warnOfRSA(l *listener) {
	if l.identity != nil && l.identity.source.RSA() {
		s.Log.Warn(rsaAdvice, zap.String("listener", l.config.Name))
	}
}

// curves returns the key exchanges of those names.
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

// clientAuth returns what the config's client_auth means.
func clientAuth(name string) tls.ClientAuthType {
	switch name {
	case "request":
		return tls.VerifyClientCertIfGiven
	case "require":
		return tls.RequireAndVerifyClientCert
	}
	return tls.NoClientCert
}

func tlsVersion(name string) uint16 {
	if name == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}
