package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// parseIdentity checks contents as strictly as the strictest device would. A mistake that is
// not found here would make some handshakes fail, where it is harder to find.
func parseIdentity(f Files, c contents) (*identity, error) {
	id := &identity{clientCAs: x509.NewCertPool()}
	for i, p := range f.pairs() {
		pair, err := parsePair(p, c.pairs[i])
		if err != nil {
			return nil, err
		}
		id.certificates = append(id.certificates, pair)
	}
	var err error
	if f.TicketSecret != "" {
		if id.ticketSecret, err = parseTicketSecret(c.ticketSecret); err != nil {
			return nil, fmt.Errorf("%s: %w", f.TicketSecret, err)
		}
	}
	if f.ClientCA == "" {
		return id, nil
	}
	if id.authorities, err = parseCertificates(c.clientCA); err != nil {
		return nil, fmt.Errorf("%s: %w", f.ClientCA, err)
	}
	for _, cert := range id.authorities {
		id.clientCAs.AddCert(cert)
	}
	if f.ClientCRL == "" {
		return id, nil
	}
	if id.revoked, err = parseRevoked(c.clientCRL, id.authorities); err != nil {
		return nil, fmt.Errorf("%s: %w", f.ClientCRL, err)
	}
	return id, nil
}

// parsePair checks one certificate with its chain and its key.
func parsePair(p Pair, c pairContents) (tls.Certificate, error) {
	chain, err := parseCertificates(c.certificate)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", p.Certificate, err)
	}
	if err := checkKey(c.key); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", p.Key, err)
	}
	pair, err := tls.X509KeyPair(c.certificate, c.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: certificate and key do not match: %s: %w; %s",
			p.Certificate, p.Key, err, cureMismatch(chain, c.key))
	}
	if err := checkOrder(chain); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", p.Certificate, err)
	}
	pair.Leaf = chain[0]
	return pair, nil
}

// parseCertificates returns the certificates of a PEM file, at least one.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	blocks, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, b := range blocks {
		if b.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be parsed: %w; have it issued anew", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("holds no certificate; put it there in PEM form (-----BEGIN CERTIFICATE-----)")
	}
	return certs, nil
}

// decodePEM returns all blocks of a file. pem.Decode skips what it cannot decode. Here that is
// an error, because a chain of which only a part has been written would look like a shorter
// chain.
func decodePEM(data []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for b, rest := pem.Decode(data); b != nil; b, rest = pem.Decode(rest) {
		blocks = append(blocks, b)
	}
	if bytes.Count(data, []byte("-----BEGIN ")) != len(blocks) {
		return nil, errors.New("a PEM block is cut off or damaged; write the file whole, then reload")
	}
	return blocks, nil
}

// checkKey finds what makes a key file unusable, apart from the value of the key.
func checkKey(data []byte) error {
	blocks, err := decodePEM(data)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if !strings.HasSuffix(b.Type, "PRIVATE KEY") {
			continue
		}
		if b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "" {
			return errors.New("the private key is encrypted; write it without a passphrase (openssl pkey -in OLD -out NEW) and let the file's mode protect it")
		}
		return nil
	}
	return errors.New("holds no private key; put it there in PEM form (-----BEGIN PRIVATE KEY-----)")
}

// cureMismatch returns what to do about a key that does not belong to the first certificate.
func cureMismatch(chain []*x509.Certificate, key []byte) string {
	for i, cert := range chain[1:] {
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		if _, err := tls.X509KeyPair(data, key); err == nil {
			return fmt.Sprintf("it is the key of certificate %d: put that one first, then its issuer", i+2)
		}
	}
	return "write both files, then reload"
}

// checkOrder checks that each certificate is signed by the next (RFC 5246 section 7.4.2). TLS
// 1.3 allows any order, but most devices cannot sort the chain.
func checkOrder(chain []*x509.Certificate) error {
	for i, cert := range chain[:len(chain)-1] {
		err := errors.New("it names another issuer")
		if bytes.Equal(cert.RawIssuer, chain[i+1].RawSubject) {
			err = cert.CheckSignatureFrom(chain[i+1])
		}
		if err != nil {
			return fmt.Errorf("certificate %d is not signed by certificate %d: %w; put the server's certificate first, then its issuer, then the issuer's issuer", i+1, i+2, err)
		}
	}
	return nil
}
