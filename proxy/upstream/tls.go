package upstream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// maxPEM is the largest certificate or key file, in bytes: several times a
// system's whole bundle of authorities.
const maxPEM = 1 << 20

// TLSOptions say how connections to tls:// servers are secured. The files are
// PEM. Empty fields leave the choice to the system.
type TLSOptions struct {
	// CA is a file with the certificates of the authorities that may sign a
	// broker's certificate. Empty means the system's authorities.
	CA string
	// Certificate and Key are the files of the client certificate, with its
	// intermediates, that the broker is shown. Both are given or neither is.
	Certificate, Key string
	// ServerName is the name that the broker's certificate must carry. Empty
	// means the host in the server's address.
	ServerName string
}

// TLS holds what [LoadTLS] loaded, and loads it again.
//
// The client certificate is looked at before each handshake: a new pair is used
// from the next connection on, a pair that does not load (half of it written, for
// instance) leaves the old one in use. New authorities need [TLS.Reload], which
// also reports what is wrong with the files; a periodic call to it finds
// everything.
//
// Reconnects resume earlier TLS sessions. A change of any file ends that, since a
// resumed session would stand for the certificates of the past.
type TLS struct {
	options     TLSOptions
	authorities files.Parsed[*x509.CertPool]
	identity    files.Parsed[*tls.Certificate]
	mu          sync.Mutex // one load at a time
	current     atomic.Pointer[trust]
}

// trust is one state of the files. It is never changed.
type trust struct {
	authorities *files.Version[*x509.CertPool]
	identity    *files.Version[*tls.Certificate]
	config      *tls.Config // without a server name
}

// LoadTLS reads the files. Every error names the file that is to be mended.
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

// Reload reads the files again. If one is faulty the error says which, and
// everything stays as it was. Established connections are not affected.
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

// refresh looks for a new client certificate, unless another goroutine does so now: no
// handshake waits for a file that another one reads.
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

// loaded returns the current state, which is empty before the first load.
func (t *TLS) loaded() trust {
	if current := t.current.Load(); current != nil {
		return *current
	}
	return trust{}
}

// swap publishes a new state unless it equals the current one, whose session
// cache must then live on. It is called with mu held.
func (t *TLS) swap(roots *files.Version[*x509.CertPool], own *files.Version[*tls.Certificate]) {
	old := t.loaded()
	if roots == old.authorities && own == old.identity {
		return
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            roots.Value,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if own.Value != nil {
		// Config.Certificates would be held back from a broker that lists other
		// authorities, and the broker would then ask for what was given here.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return own.Value, nil
		}
	}
	t.current.Store(&trust{authorities: roots, identity: own, config: config})
}

// config returns the configuration for one handshake with host. A nil or zero
// TLS works with defaults.
func (t *TLS) config(host string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
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

// parseAuthorities is strict where CertPool.AppendCertsFromPEM is not: an
// authority that cannot be read is not left out silently.
func (o *TLSOptions) parseAuthorities(contents [][]byte) (*x509.CertPool, error) {
	if len(contents) == 0 {
		return nil, nil // the system's
	}
	pool := x509.NewCertPool()
	n := 0
	for block, rest := pem.Decode(contents[0]); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate number %d: %w", o.CA, n, err)
		}
		pool.AddCert(certificate)
	}
	if n == 0 {
		return nil, fmt.Errorf("%s: no certificate in it; it must hold the authority's certificate in PEM form (BEGIN CERTIFICATE)", o.CA)
	}
	return pool, nil
}

// parseIdentity makes the client certificate from its file and that of its key.
func (o *TLSOptions) parseIdentity(contents [][]byte) (*tls.Certificate, error) {
	if len(contents) == 0 {
		return nil, nil // no client certificate
	}
	certificate, key := contents[0], contents[1]
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		if bytes.Contains(key, []byte("ENCRYPTED")) {
			return nil, fmt.Errorf("the key %s is encrypted; store it without a passphrase", o.Key)
		}
		return nil, fmt.Errorf("%s with key %s: %w", o.Certificate, o.Key, err)
	}
	return &pair, nil
}
