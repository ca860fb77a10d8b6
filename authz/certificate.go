package authz

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// The prefixes of certificate names. A certificate is named by its fingerprint or by a name in
// it.
const (
	commonName      = "cn:"
	alternativeName = "san:"
)

// CheckCertificateName returns an error unless name has one of these forms:
//
//   - the SHA-256 of the certificate (DER) in 64 hexadecimal digits, lower case;
//   - cn: and the common name of its subject;
//   - san: and one of its subject alternative names: DNS name, e-mail address,
//     URI or IP address (RFC 5280 section 4.2.1.6).
//
// Names are compared byte for byte: a wildcard in a certificate matches itself.
func CheckCertificateName(name string) error {
	for _, prefix := range []string{commonName, alternativeName} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return nil
		}
	}
	if raw, err := hex.DecodeString(name); err == nil && len(raw) == sha256.Size && name == strings.ToLower(name) {
		return nil
	}
	return errors.New("want the SHA-256 of a certificate as 64 hexadecimal digits in lower case, cn:NAME or san:NAME")
}

// CertificateFingerprint returns the SHA-256 of a certificate (DER) in the form
// that [CheckCertificateName] describes.
func CertificateFingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// identifies reports whether peer, which may be nil, is one of the certificates in c.
func (c *Conditions) identifies(peer *x509.Certificate) bool {
	if len(c.Certificates) == 0 {
		return true
	}
	return peer != nil && slices.ContainsFunc(c.Certificates, func(name string) bool { return isNamed(peer, name) })
}

func isNamed(cert *x509.Certificate, name string) bool {
	if cn, ok := strings.CutPrefix(name, commonName); ok {
		return cn != "" && cert.Subject.CommonName == cn
	}
	if san, ok := strings.CutPrefix(name, alternativeName); ok {
		return san != "" && slices.Contains(AlternativeNames(cert), san)
	}
	return CertificateFingerprint(cert) == name
}

// AlternativeNames returns the subject alternative names of a certificate as strings: DNS
// names, e-mail addresses, URIs and IP addresses, in this order.
func AlternativeNames(cert *x509.Certificate) []string {
	names := slices.Concat(cert.DNSNames, cert.EmailAddresses)
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
