package certtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

func TestIssuedCertificatesVerify(t *testing.T) {
	ca := certtest.Authority("ca")
	leaf := ca.Issue(&x509.Certificate{DNSNames: []string{"broker.example"}})
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "broker.example"}); err != nil {
		t.Error(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: certtest.Authority("ca").Pool()}); err == nil {
		t.Error("an authority with the same name and another key is trusted")
	}
	if _, err := tls.X509KeyPair(leaf.PEM(), leaf.KeyPEM()); err != nil {
		t.Error(err)
	}
}
