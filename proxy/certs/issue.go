package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"time"
)

const (
	authorityYears = 10
	// Apple's systems refuse more than 398 days of certificates that they
	// were not told to trust by hand.
	serverLife = 397 * 24 * time.Hour
	backdate   = time.Hour
)

// ownKeyMark is the first line of our keys. Text before the first block is
// allowed (RFC 7468 section 5.2), and openssl keeps quiet about it.
const ownKeyMark = "This key was made by mqtt-auth-proxy, which renews the certificates that belong to it.\n"

func newKeyPEM() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return append([]byte(ownKeyMark), block...), nil
}

// parseOwnKey returns nil if data is not a key that newKeyPEM made.
func parseOwnKey(data []byte) *ecdsa.PrivateKey {
	rest, marked := bytes.CutPrefix(data, []byte(ownKeyMark))
	blocks, err := decodePEM(rest)
	if !marked || err != nil || len(blocks) != 1 {
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(blocks[0].Bytes)
	if err != nil {
		return nil
	}
	own, ok := key.(*ecdsa.PrivateKey)
	if !ok || own.Curve != elliptic.P256() {
		return nil
	}
	return own
}

func newAuthorityPEM(key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	template := &x509.Certificate{
		Subject:               authoritySubject(&key.PublicKey),
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(-backdate).AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		// Left to x509, it would follow the Go release, and a certificate
		// renewed by the next one would not point to the copies of
		// ca-root.pem that devices hold.
		SubjectKeyId: keyID(&key.PublicKey),
	}
	return issue(template, template, &key.PublicKey, key)
}

// newServerPEM makes the certificate alone, without the authority's: who does
// not have that one already gains nothing from being sent it.
func newServerPEM(have *inventory, names []string, now time.Time) ([]byte, error) {
	template := &x509.Certificate{
		Subject:               serverSubject(),
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(-backdate).Add(serverLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	addNames(template, names)
	return issue(template, have.authority, &have.serverKey.PublicKey, have.authorityKey)
}

func issue(template, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", template.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// parseIssued returns nil if data is not one certificate for subject that we
// issued with the key of issuer. Its dates do not matter.
func parseIssued(data []byte, subject pkix.Name, issuer *ecdsa.PublicKey) *x509.Certificate {
	certs, err := parseCertificates(data)
	if err != nil || len(certs) != 1 || certs[0].Subject.String() != subject.String() {
		return nil
	}
	cert := certs[0]
	// Not CheckSignatureFrom: ca-root.pem may be the file that is missing.
	authority := &x509.Certificate{PublicKey: issuer}
	if authority.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return nil
	}
	return cert
}

// authoritySubject follows from the key, so that the authority keeps its name
// when it is renewed and two authorities never share one.
func authoritySubject(key *ecdsa.PublicKey) pkix.Name {
	return subject("mqtt-auth-proxy CA " + hex.EncodeToString(keyID(key)[:4]))
}

func serverSubject() pkix.Name { return subject("mqtt-auth-proxy server") }

func subject(commonName string) pkix.Name {
	return pkix.Name{Organization: []string{"mqtt-auth-proxy"}, CommonName: commonName}
}

// keyID is method 1 of RFC 7093 section 2.
func keyID(key *ecdsa.PublicKey) []byte {
	point, err := key.Bytes()
	if err != nil {
		return make([]byte, 20) // only a curve that we never use
	}
	sum := sha256.Sum256(point)
	return sum[:20]
}

// renewAt is when a third of a certificate's life is left.
func renewAt(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)
}
