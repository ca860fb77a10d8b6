// Package clienttls reads the PEM files with which a TLS client is configured, in the same
// way for brokers, token services and issuers of key sets.
//
// The callers differ in when they read the files and in what they keep between
// connections. They agree in what is a good file: every certificate of an authority can be
// read, and a client certificate comes with its key, which is not encrypted. Errors do not
// name the files, which the callers know.
package clienttls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// MinVersion is the lowest TLS version that the clients speak.
const MinVersion = tls.VersionTLS12

// Roots returns the authorities in content. It is stricter than
// [x509.CertPool.AppendCertsFromPEM], which leaves out silently what it cannot read.
func Roots(content []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	n := 0
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate number %d: %w", n, err)
		}
		pool.AddCert(certificate)
	}
	if n == 0 {
		return nil, errors.New("no certificate in it; it must hold the authority's certificate in PEM form (BEGIN CERTIFICATE)")
	}
	return pool, nil
}

// KeyPair returns the client certificate, with its intermediates, that belongs to key.
func KeyPair(certificate, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	switch {
	case err == nil:
		return &pair, nil
	case bytes.Contains(key, []byte("ENCRYPTED")):
		return nil, errors.New("the key is encrypted; store it without a passphrase")
	}
	return nil, fmt.Errorf("not a certificate and its key in PEM: %w", err)
}
