// Package certtest makes certificates for tests.
//
//	ca := certtest.Authority("ca")
//	broker := ca.Issue(&x509.Certificate{DNSNames: []string{"broker.example"}})
//	server := &tls.Config{Certificates: []tls.Certificate{broker.TLS()}}
//	client := &tls.Config{RootCAs: ca.Pool(), ServerName: "broker.example"}
//
// What a template leaves out is filled in: a random serial number, and validity from a year
// ago until in a year. Keys are ECDSA on P-256 unless the test gives one.
//
// The functions panic if a certificate cannot be made, which is a mistake in the template.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"time"
)

// Certificate is a certificate together with its private key.
type Certificate struct {
	*x509.Certificate
	Key crypto.Signer
}

// SelfSigned makes a certificate that is signed with its own key.
func SelfSigned(template *x509.Certificate) Certificate {
	return SelfSignedWith(NewKey(), template)
}

// SelfSignedWith makes a certificate for key that is signed with key.
func SelfSignedWith(key crypto.Signer, template *x509.Certificate) Certificate {
	return sign(template, template, key, key)
}

// Authority makes the self-signed certificate of an authority that can issue certificates
// and revocation lists.
func Authority(name string) Certificate {
	return SelfSigned(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
}

// Issue makes a certificate that c signs.
func (c Certificate) Issue(template *x509.Certificate) Certificate {
	return c.IssueWith(NewKey(), template)
}

// IssueWith makes a certificate for key that c signs.
func (c Certificate) IssueWith(key crypto.Signer, template *x509.Certificate) Certificate {
	return sign(template, c.Certificate, key, c.Key)
}

// NewKey makes an ECDSA key on P-256.
func NewKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func sign(template, parent *x509.Certificate, key, signer crypto.Signer) Certificate {
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().AddDate(1, 0, 0)
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer))
	return Certificate{Certificate: must(x509.ParseCertificate(der)), Key: key}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic("certtest: " + err.Error())
	}
	return value
}

// TLS returns the certificate in the form that crypto/tls takes.
func (c Certificate) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: c.Key, Leaf: c.Certificate}
}

// Pool returns a pool with the certificate alone.
func (c Certificate) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Certificate)
	return pool
}

// PEM returns the certificate in PEM.
func (c Certificate) PEM() []byte { return PEM(c.Certificate) }

// KeyPEM returns the private key in PEM (PKCS #8).
func (c Certificate) KeyPEM() []byte { return KeyPEM(c.Key) }

// PEM returns certificates in PEM, one after the other.
func PEM(certificates ...*x509.Certificate) (text []byte) {
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// KeyPEM returns a private key in PEM (PKCS #8).
func KeyPEM(key crypto.Signer) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
}
