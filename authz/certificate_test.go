package authz_test

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestCertificateAsSecondFactor(t *testing.T) {
	cert := &x509.Certificate{
		Raw: []byte("the DER of a certificate"), Subject: pkix.Name{CommonName: "pump-7"}, DNSNames: []string{"pump-7.example"},
		EmailAddresses: []string{"pump@example.org"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		URIs: []*url.URL{{Scheme: "urn", Opaque: "dev:7"}},
	}
	sum := sha256.Sum256(cert.Raw)
	fingerprint := hex.EncodeToString(sum[:])
	for _, tt := range []struct {
		names []string
		peer  *x509.Certificate
		ok    bool
	}{
		{nil, nil, true},
		{nil, cert, true},
		{[]string{fingerprint}, cert, true},
		{[]string{fingerprint}, nil, false},
		{[]string{strings.Repeat("0", 64)}, cert, false},
		{[]string{"cn:pump-7"}, cert, true},
		{[]string{"cn:pump-8"}, cert, false},
		{[]string{"cn:pump-8", "cn:pump-7"}, cert, true},
		{[]string{"cn:"}, &x509.Certificate{}, false},
		{[]string{"san:pump-7.example"}, cert, true},
		{[]string{"san:pump@example.org"}, cert, true},
		{[]string{"san:urn:dev:7"}, cert, true},
		{[]string{"san:192.0.2.1"}, cert, true},
		{[]string{"san:pump-7"}, cert, false},
		{[]string{"san:*.example"}, cert, false},
	} {
		g := &authz.Grant{Only: authz.Conditions{Certificates: tt.names}}
		err := g.Check(authz.Request{Peer: tt.peer}, time.Now())
		var d *authz.Denial
		if (err == nil) != tt.ok || err != nil && (!errors.As(err, &d) || d.Reason != authz.WrongCertificate) {
			t.Errorf("%v: %v, want good: %v", tt.names, err, tt.ok)
		}
	}
}

func TestCertificateNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"cn:x": true, "san:x": true, strings.Repeat("a1", 32): true,
		"": false, "cn:": false, "san:": false, "x": false, strings.Repeat("A1", 32): false, strings.Repeat("a1", 31): false, "dns:x": false,
	} {
		if err := authz.CheckCertificateName(name); (err == nil) != ok {
			t.Errorf("%q: %v, want good: %v", name, err, ok)
		}
	}
}
