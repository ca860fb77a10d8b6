package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// authority signs the certificates of a test.
type authority struct{ certtest.Certificate }

func newAuthority(name string) authority { return authority{certtest.Authority(name)} }

// issue returns a certificate for name, which ends its life at notAfter, and its
// key.
func (a authority) issue(name string, notAfter time.Time) (certificate, key []byte) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		NotBefore:   notAfter.Add(-2 * time.Hour),
		NotAfter:    notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	c := a.Issue(template)
	return c.PEM(), c.KeyPEM()
}

// broker returns the configuration of a broker with a certificate for name.
func (a authority) broker(t testing.TB, name string) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair(a.issue(name, time.Now().Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// write stores content in dir under name and returns the path.
func write(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
