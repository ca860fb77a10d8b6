package harness

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// Authority issues client certificates and revokes them.
type Authority struct {
	t    testing.TB
	made certtest.Certificate
}

// NewAuthority returns an authority with a self-signed certificate.
func NewAuthority(t testing.TB, name string) *Authority {
	return &Authority{t: t, made: certtest.Authority(name)}
}

// Device returns a client certificate with that serial number and common name.
func (a *Authority) Device(number int64, name string) tls.Certificate {
	return a.made.Issue(&x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}).TLS()
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() string { return string(a.made.PEM()) }

// RevocationList returns a list, in PEM, of the certificates with these serial numbers.
func (a *Authority) RevocationList(numbers ...int64) string {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, n := range numbers {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.made.Certificate, a.made.Key)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// ServerCertificate returns a self-signed certificate for localhost with that serial
// number, and its key, both in PEM.
func ServerCertificate(serial int64) (certificate, key string) {
	c := certtest.SelfSigned(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}})
	return string(c.PEM()), string(c.KeyPEM())
}
