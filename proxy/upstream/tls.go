package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/clienttls"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// maxPEM is the maximum size of a certificate or key file in bytes. It is several times the
// size of a system's bundle of authorities.
const maxPEM = 1 << 20

// TLSOptions configures connections to tls:// servers. The files are PEM. Empty fields select
// the system's defaults.
type TLSOptions struct {
	// CA is a file with the certificates of the authorities that may sign a
	// broker's certificate. Empty means the system's authorities.
	CA string
	// Certificate and Key are the files of the client certificate that is presented to the
	// broker. Certificate includes any intermediates. Both are set or neither is.
	Certificate, Key string
	// ServerName is the name that the broker's certificate must carry. Empty
	// means the host in the server's address.
	ServerName string
}

// TLS holds what [LoadTLS] loaded, and can load it again.
//
// The files of the client certificate are checked before each handshake. A new pair is used
// from the next connection on. A pair that does not load, for instance because half of it is
// written, leaves the old one in use. New authorities are loaded only by [TLS.Reload], which
// also reports what is wrong with the files. Call it periodically.
//
// Reconnects resume earlier TLS sessions. A change of any file discards those sessions, because
// a resumed session is not verified again.
type TLS struct {
	options     TLSOptions
	authorities files.Parsed[*x509.CertPool]
	identity    files.Parsed[*tls.Certificate]
	mu          sync.Mutex // serializes loads
	current     atomic.Pointer[trust]
}

// trust is one immutable state of the files.
type trust struct {
	authorities *files.Version[*x509.CertPool]
	identity    *files.Version[*tls.Certificate]
	config      *tls.Config // without a server name
}

// LoadTLS reads the files. Every error names the file to correct.
func LoadTLS(options TLSOptions) (*TLS, error) {
	if (options.Certificate == "") != (options.Key == "") {
		return nil, errors.New("a client certificate needs both the certificate's file and the key's file")
	}
	if options.ServerName != "" {
		if err := CheckHost(options.ServerName); err != nil {
			return nil, fmt.Errorf("the server name %w", err)
		}
	}
	t := &TLS{
		options:     options,
		authorities: files.Parsed[*x509.CertPool]{Limit: maxPEM, Parse: options.parseAuthorities},
		identity:    files.Parsed[*tls.Certificate]{Limit: maxPEM, Parse: options.parseIdentity},
	}
	if options.CA != "" {
		t.authorities.Paths = []string{options.CA}
	}
	if options.Certificate != "" {
		t.identity.Paths = []string{options.Certificate, options.Key}
	}
	if err := t.Reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// Reload reads the files again. If one is faulty, the error names it and everything stays as it
// was. Established connections are not affected.
func (t *TLS) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.loaded()
	roots, err := t.authorities.Read(old.authorities)
	if err != nil {
		return fmt.Errorf("CA file: %w", err)
	}
	own, err := t.identity.Read(old.identity)
	if err != nil {
		return fmt.Errorf("client certificate and key: %w", err)
	}
	t.swap(roots, own)
	return nil
}

// refresh checks for a new client certificate, unless another goroutine is doing so: a
// handshake does not wait while another one reads the files.
func (t *TLS) refresh() {
	if t.options.Certificate == "" || !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	old := t.loaded()
	if own, err := t.identity.Read(old.identity); err == nil {
		t.swap(old.authorities, own)
	}
}

// loaded returns the current state. It is the zero trust before the first load.
func (t *TLS) loaded() trust {
	if current := t.current.Load(); current != nil {
		return *current
	}
	return trust{}
}

// swap publishes a new state, unless it equals the current one, whose session cache must be
// kept. t.mu is held.
func (t *TLS) swap(roots *files.Version[*x509.CertPool], own *files.Version[*tls.Certificate]) {
	old := t.loaded()
	if roots == old.authorities && own == old.identity {
		return
	}
	config := &tls.Config{
		MinVersion:         clienttls.MinVersion,
		RootCAs:            roots.Value,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if own.Value != nil {
		// A certificate in Config.Certificates is not sent to a broker that lists other
		// authorities, and the broker would then see no certificate at all.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return own.Value, nil
		}
	}
	t.current.Store(&trust{authorities: roots, identity: own, config: config})
}

// config returns the configuration for one handshake with host. A nil or zero TLS uses the
// defaults.
func (t *TLS) config(host string) *tls.Config {
	config := &tls.Config{MinVersion: clienttls.MinVersion}
	if t != nil {
		t.refresh()
		if current := t.current.Load(); current != nil {
			config = current.config.Clone()
		}
		if t.options.ServerName != "" {
			host = t.options.ServerName
		}
	}
	config.ServerName = host
	return config
}

// parseAuthorities makes the pool of authorities.
func (o *TLSOptions) parseAuthorities(contents [][]byte) (*x509.CertPool, error) {
	if len(contents) == 0 {
		return nil, nil // the system's authorities
	}
	pool, err := clienttls.Roots(contents[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.CA, err)
	}
	return pool, nil
}

// parseIdentity makes the client certificate from its file and that of its key.
func (o *TLSOptions) parseIdentity(contents [][]byte) (*tls.Certificate, error) {
	if len(contents) == 0 {
		return nil, nil // no client certificate
	}
	pair, err := clienttls.KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, fmt.Errorf("%s with key %s: %w", o.Certificate, o.Key, err)
	}
	return pair, nil
}
