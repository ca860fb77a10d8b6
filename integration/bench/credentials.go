//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// mostSessions keeps a target with two files for each session below 20,000 files.
const mostSessions = 9000

// firstHeld is the number of the first of the devices whose tokens have a limit.
const firstHeld = 100_000

// tokenOf returns the token of a device. Every device has its own.
func tokenOf(device int) string {
	if device < firstHeld {
		device %= mostSessions
	}
	return fmt.Sprintf("token-of-device-%05d", device)
}

// writeCredentials writes the credentials of targets and devices: a certificate with an ECDSA key
// on P-256, and a token for each device.
func writeCredentials(dir string) error {
	made := certtest.SelfSigned(&x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	cert, key := made.PEM(), made.KeyPEM()
	both := append(bytes.Clone(cert), key...) // HAProxy wants one file
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600),
		os.WriteFile(filepath.Join(dir, "both.pem"), both, 0o600),
		os.WriteFile(filepath.Join(dir, "tokens.jsonl"), tokenFile(), 0o600),
		os.WriteFile(filepath.Join(dir, "tokens.map"), tokenMap(), 0o600),
	)
}

// tokenMap returns the same tokens for HAProxy, in clear text.
func tokenMap() []byte {
	var b bytes.Buffer
	for i := range mostSessions {
		fmt.Fprintf(&b, "%s device-%d\n", tokenOf(i), i)
	}
	for i := range heldDevices {
		fmt.Fprintf(&b, "%s device-%d\n", tokenOf(firstHeld+i), firstHeld+i)
	}
	return b.Bytes()
}

func tokenFile() []byte {
	var b bytes.Buffer
	write := func(device int, limits string) {
		fmt.Fprintf(&b, `{"id":"device-%d","token_hash":"sha256:%x"%s}`+"\n", device, sha256.Sum256([]byte(tokenOf(device))), limits)
	}
	for i := range mostSessions {
		write(i, "")
	}
	for i := range heldDevices {
		write(firstHeld+i, fmt.Sprintf(`,"limits":{"publish_rate":%d,"publish_burst":1}`, heldRate))
	}
	return b.Bytes()
}
