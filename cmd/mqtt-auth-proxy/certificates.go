package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/certs"
)

// certificates are the identity of one TLS listener.
type certificates struct {
	source    *certs.Source
	authority *certs.Authority // nil for files of somebody else's
	tls       *tls.Config
}

// openCertificates loads the identity of a TLS listener.
func (d *draft) openCertificates(c *config.ListenerTLS) (*certificates, error) {
	own := &certificates{}
	files := certs.Files{Certificate: c.Certificate, Key: c.Key}
	if c.Auto {
		own.authority = d.ownAuthority()
		if _, err := own.authority.Ensure(); err != nil {
			return nil, err
		}
		files = own.authority.Files()
	}
	files.ClientCA, files.ClientCRL = c.ClientCA, c.ClientCRL
	var err error
	if own.source, err = certs.Load(files); err != nil {
		return nil, err
	}
	own.tls = own.source.ServerConfig(certs.Options{MinVersion: tlsVersion(c.MinVersion), ClientAuth: clientAuth(c.ClientAuth)})
	return own, nil
}

// ownAuthority returns the authority that signs for auto listeners.
func (g *generation) ownAuthority() *certs.Authority {
	return &certs.Authority{Dir: filepath.Join(g.config.Data, "tls")}
}

// refresh renews and reloads. It reports whether something new is in service.
func (c *certificates) refresh() (changed bool, err error) {
	if c.authority != nil {
		_, err = c.authority.Ensure()
	}
	changed, loadErr := c.source.Reload()
	return changed, errors.Join(err, loadErr)
}

// warnEvery is how often what should be seen to about certificates is said again.
const warnEvery = 24 * time.Hour

func (s *service) warnAboutCertificates() {
	for _, l := range s.current.Load().listeners {
		if l.identity != nil {
			s.warnAbout(l)
		}
	}
}

// warnAbout says what should be seen to about a certificate.
func (s *service) warnAbout(l *listener) {
	leaf := l.identity.source.Leaf()
	if left := time.Until(leaf.NotAfter); left < 14*24*time.Hour {
		s.log.Warn("the server certificate ends soon", zap.String("listener", l.config.Name), zap.Time("not_after", leaf.NotAfter))
	}
	if l.identity.source.RSA() {
		s.log.Warn("the server certificate has an RSA key: an ECDSA P-256 key makes a handshake several times cheaper", zap.String("listener", l.config.Name))
	}
}

// certificateCollector exports when the certificates in force end.
type certificateCollector struct{ *service }

// Describe implements prometheus.Collector. Which listeners there are depends on the
// config, so none are announced.
func (c certificateCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c certificateCollector) Collect(ch chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("mqtt_auth_proxy_certificate_expiry_timestamp_seconds", "When the server certificate ends, in seconds since 1970.", []string{"listener"}, nil)
	for _, l := range c.current.Load().listeners {
		if l.identity != nil && l.nth == 0 {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(l.identity.source.Leaf().NotAfter.Unix()), l.config.Name)
		}
	}
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

// probeListeners loads the certificates that listeners name.
func probeListeners(listeners []config.Listener) error {
	var errs []error
	for i, l := range listeners {
		if l.TLS == nil || l.TLS.Auto {
			continue
		}
		if _, err := certs.Load(certs.Files{Certificate: l.TLS.Certificate, Key: l.TLS.Key, ClientCA: l.TLS.ClientCA, ClientCRL: l.TLS.ClientCRL}); err != nil {
			errs = append(errs, fmt.Errorf("listeners[%d].tls: %w", i, err))
		}
	}
	return errors.Join(errs...)
}
