package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/certs"
)

// certificates are the identity of one TLS listener.
type certificates struct {
	label     string
	source    *certs.Source
	authority *certs.Authority // nil for files of somebody else's
}

// refresh renews and reloads. It reports whether something new is in service.
func (c certificates) refresh() (changed bool, err error) {
	if c.authority != nil {
		_, err = c.authority.Ensure()
	}
	changed, loadErr := c.source.Reload()
	return changed, errors.Join(err, loadErr)
}

// openListeners opens the sockets that devices connect to.
func (s *service) openListeners(context.Context) error {
	for i, lc := range s.config.Listeners {
		ln, err := s.openListener(i, lc)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, ln)
	}
	return nil
}

func (s *service) openListener(i int, lc config.Listener) (*proxy.Listener, error) {
	key := fmt.Sprintf("listeners[%d]", i)
	ln := &proxy.Listener{Name: lc.Name}
	if ln.Name == "" {
		ln.Name = lc.Address
	}
	if lc.TLS != nil {
		source, err := s.certificatesFor(key, lc)
		if err != nil {
			return nil, err
		}
		ln.TLS = source.ServerConfig(certs.Options{MinVersion: tlsVersion(lc.TLS.MinVersion), ClientAuth: clientAuth(lc.TLS.ClientAuth)})
	}
	if lc.ProxyProtocol != nil {
		ln.ProxyProtocol = networks(lc.ProxyProtocol.Trusted)
	}
	inner, err := listen(key+".address", lc.Address)
	if err != nil {
		return nil, err
	}
	ln.Listener = inner
	return ln, nil
}

// networks returns what the config has checked to be networks.
func networks(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// certificatesFor loads the identity of a TLS listener and remembers it for
// reloads.
func (s *service) certificatesFor(key string, lc config.Listener) (*certs.Source, error) {
	c := certificates{label: lc.Address}
	files := certs.Files{Certificate: lc.TLS.Certificate, Key: lc.TLS.Key}
	if lc.TLS.Auto {
		c.authority = s.ownAuthority()
		if _, err := c.authority.Ensure(); err != nil {
			return nil, fmt.Errorf("%s.tls: %w", key, err)
		}
		files = c.authority.Files()
	}
	files.ClientCA, files.ClientCRL = lc.TLS.ClientCA, lc.TLS.ClientCRL
	var err error
	if c.source, err = certs.Load(files); err != nil {
		return nil, fmt.Errorf("%s.tls: %w", key, err)
	}
	s.certs = append(s.certs, c)
	s.watchExpiry(c)
	return c.source, nil
}

// ownAuthority returns the authority that signs for auto listeners.
func (s *service) ownAuthority() *certs.Authority {
	return &certs.Authority{Dir: filepath.Join(s.config.Data, "tls")}
}

// watchExpiry exports when the certificate ends and complains if that is soon.
func (s *service) watchExpiry(c certificates) {
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "mqtt_auth_proxy_certificate_expiry_timestamp_seconds",
		Help:        "When the server certificate ends, in seconds since 1970.",
		ConstLabels: prometheus.Labels{"listener": c.label},
	}, func() float64 { return float64(c.source.Leaf().NotAfter.Unix()) }))
	if left := time.Until(c.source.Leaf().NotAfter); left < 14*24*time.Hour {
		s.log.Warn("the server certificate ends soon", zap.String("listener", c.label), zap.Time("not_after", c.source.Leaf().NotAfter))
	}
	if c.source.RSA() {
		s.log.Warn("the server certificate has an RSA key: an ECDSA P-256 key makes a handshake several times cheaper", zap.String("listener", c.label))
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

// keepAlive finds dead peers within about three minutes. It is set once on the
// listener and inherited by its connections.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 30 * time.Second, Count: 4}

// listen opens a TCP socket; key is what the config calls its address.
func listen(key, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	ln, err := lc.Listen(context.Background(), "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is in use: stop the program that listens there (a broker, another proxy) or choose another address", key, address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: no permission to listen on %s: ports below 1024 need a privilege", key, address)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return ln, nil
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
