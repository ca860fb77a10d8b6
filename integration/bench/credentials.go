//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// mostSessions leaves a target that needs two files a session within 20,000.
const mostSessions = 9000

// tokenOf is the token of a device. Every device has one of its own.
func tokenOf(device int) string { return fmt.Sprintf("token-of-device-%05d", device%mostSessions) }

// writeCredentials makes what targets and devices need: a certificate with an
// ECDSA key on P-256, and a token for each device.
func writeCredentials(dir string) error {
	cert, key, err := newCertificate()
	if err != nil {
		return err
	}
	both := append(bytes.Clone(cert), key...) // HAProxy wants one file
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600),
		os.WriteFile(filepath.Join(dir, "both.pem"), both, 0o600),
		os.WriteFile(filepath.Join(dir, "tokens.jsonl"), tokenFile(), 0o600),
	)
}

func newCertificate() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	names := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, names, names, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
	return cert, key, nil
}

func tokenFile() []byte {
	var b bytes.Buffer
	for i := range mostSessions {
		fmt.Fprintf(&b, `{"id":"device-%d","token_hash":"sha256:%x"}`+"\n", i, sha256.Sum256([]byte(tokenOf(i))))
	}
	return b.Bytes()
}
