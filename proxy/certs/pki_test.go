package certs

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// issuer is an authority that this package did not make.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newIssuer(t testing.TB, name string) *issuer {
	return (&issuer{}).subordinate(t, name)
}

// subordinate returns an authority that i issued, or a root if i is zero.
func (i *issuer) subordinate(t testing.TB, name string) *issuer {
	t.Helper()
	key := certtest.NewKey()
	cert := i.sign(key, &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	})
	return &issuer{cert, key}
}

// sign makes a certificate for key, which i signs unless it is zero.
func (i *issuer) sign(key crypto.Signer, template *x509.Certificate) *x509.Certificate {
	if i.cert == nil {
		return certtest.SelfSignedWith(key, template).Certificate
	}
	return certtest.Certificate{Certificate: i.cert, Key: i.key}.IssueWith(key, template).Certificate
}

// server returns the PEM of a certificate for localhost and of its key.
func (i *issuer) server(t testing.TB, key crypto.Signer) (certPEM, keyPEM []byte) {
	t.Helper()
	cert := i.sign(key, &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"localhost"}})
	return certtest.PEM(cert), certtest.KeyPEM(key)
}

// device returns a client certificate.
func (i *issuer) device(t testing.TB) tls.Certificate {
	t.Helper()
	key := certtest.NewKey()
	cert := i.sign(key, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "device"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// trust returns a client config that verifies localhost by the authorities.
func trust(certs ...*x509.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	for _, cert := range certs {
		roots.AddCert(cert)
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// handshake connects client to server over TCP, sends one byte from the server, and returns the
// client's state. Session tickets, and the server's decision about a client certificate, arrive
// with that byte.
func handshake(t testing.TB, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		if nc, err := ln.Accept(); err == nil {
			conn := tls.Server(nc, server)
			_, _ = conn.Write([]byte{0})
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(nc, client)
	_, err = io.ReadFull(conn, make([]byte, 1))
	state := conn.ConnectionState()
	_ = conn.Close()
	<-served
	return state, err
}

func put(t testing.TB, path string, data ...[]byte) {
	t.Helper()
	if err := os.WriteFile(path, bytes.Join(data, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustParse(t testing.TB, path string) *x509.Certificate {
	t.Helper()
	certs, err := parseCertificates(get(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

// pair writes a new server certificate issued by root, and its key, to dir.
func pair(t testing.TB, root *issuer, dir string) Files {
	t.Helper()
	files := Files{Certificate: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server-key.pem")}
	cert, key := root.server(t, certtest.NewKey())
	put(t, files.Certificate, cert)
	put(t, files.Key, key)
	return files
}

func mustLoad(t testing.TB, files Files) *Source {
	t.Helper()
	src, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func mustReload(t testing.TB, src *Source, want bool) {
	t.Helper()
	changed, err := src.Reload()
	if err != nil || changed != want {
		t.Fatalf("Reload() = %v, %v; want %v, nil", changed, err, want)
	}
}

// mustServe fails the test unless a client that trusts root accepts src's server.
func mustServe(t testing.TB, src *Source, root *x509.Certificate) {
	t.Helper()
	if _, err := handshake(t, src.ServerConfig(Options{}), trust(root)); err != nil {
		t.Fatalf("handshake: %v", err)
	}
}

// mustNotServe fails the test unless a client that trusts root finds the server's authority
// unknown.
func mustNotServe(t testing.TB, src *Source, root *x509.Certificate) {
	t.Helper()
	_, err := handshake(t, src.ServerConfig(Options{}), trust(root))
	if unknown := (x509.UnknownAuthorityError{}); !errors.As(err, &unknown) {
		t.Fatalf("handshake: %v, want an unknown authority", err)
	}
}
