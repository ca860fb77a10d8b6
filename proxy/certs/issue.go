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
	// Apple's systems refuse certificates that are valid for more than 398 days unless a user
	// has trusted them explicitly.
	serverLife = 397 * 24 * time.Hour
	backdate   = time.Hour
)

// ownKeyMark is the first line of our keys. Text before the first block is allowed (RFC 7468
// section 5.2), and openssl ignores it.
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
		// The default of x509 could change with the Go release, and a certificate that the next
		// release renews would not match the copies of ca-root.pem on devices.
		SubjectKeyId: keyID(&key.PublicKey),
	}
	return issue(template, template, &key.PublicKey, key)
}

// newServerPEM returns the server certificate alone, without the authority's. A client that
// does not already trust the authority gains nothing from receiving it.
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

// parseIssued returns nil unless data is one certificate for subject that was issued with the
// key of issuer. Its dates do not matter.
func parseIssued(data []byte, subject pkix.Name, issuer *ecdsa.PublicKey) *x509.Certificate {
	certs, err := parseCertificates(data)
	if err != nil || len(certs) != 1 || certs[0].Subject.String() != subject.String() {
		return nil
	}
	cert := certs[0]
	// CheckSignatureFrom cannot be used, because ca-root.pem may be the file that is missing.
	authority := &x509.Certificate{PublicKey: issuer}
	if authority.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return nil
	}
	return cert
}

// authoritySubject derives the name from the key, so that the authority keeps its name when it
// is renewed and two authorities never have the same name.
func authoritySubject(key *ecdsa.PublicKey) pkix.Name {
	return subject("mqtt-auth-proxy CA " + hex.EncodeToString(keyID(key)[:4]))
}

func serverSubject() pkix.Name { return subject("mqtt-auth-proxy server") }

func subject(commonName string) pkix.Name {
	return pkix.Name{Organization: []string{"mqtt-auth-proxy"}, CommonName: commonName}
}

// keyID returns the key identifier by method 1 of RFC 7093 section 2.
func keyID(key *ecdsa.PublicKey) []byte {
	point, err := key.Bytes()
	if err != nil {
		return make([]byte, 20) // only for a curve that is never used here
	}
	sum := sha256.Sum256(point)
	return sum[:20]
}

// renewAt returns the time at which a third of a certificate's lifetime is left.
func renewAt(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)
}
