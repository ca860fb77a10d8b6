package service

import (
	"crypto/x509"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/certs"
)

const (
	// warnInterval is how often the expiry of a certificate is logged.
	warnInterval = 24 * time.Hour
	// endsSoon is how long before its expiry a certificate is reported: long enough to get a
	// new one, and twice the time that an automatic renewal leaves.
	endsSoon = 14 * 24 * time.Hour
)

// warnOfExpiry logs which certificates and client CAs have expired or will soon expire.
func (s *Service) warnOfExpiry() {
	for _, own := range s.current.Load().identities() {
		for _, leaf := range own.source.Leaves() {
			s.warnOf("the server certificate", own.listener, leaf)
		}
		for _, ca := range own.source.ClientCAs() {
			s.warnOf("a client CA certificate", own.listener, ca)
		}
	}
}

// warnOf logs that a certificate has expired or will soon expire.
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

// rsaAdvice is the warning about a server certificate with an RSA key.
const rsaAdvice = "the server certificate has an RSA key: an ECDSA P-256 key makes a handshake several times cheaper"

// rsaWarnings returns rsaAdvice for each listener with an RSA key.
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

// warnOfRSA logs rsaAdvice if a listener, whose certificate has just been loaded, has an RSA key.
func (s *Service) warnOfRSA(listener string, own *certificates) {
	if own != nil && own.source.RSA() {
		s.Log.Warn(rsaAdvice, zap.String("listener", listener))
	}
}
