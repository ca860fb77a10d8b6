package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issuer is somebody else's authority.
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
	key := ecdsaKey(t)
	cert := i.sign(t, key, &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	})
	return &issuer{cert, key}
}

// sign fills in the dates unless they are set.
func (i *issuer) sign(t testing.TB, key crypto.Signer, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().AddDate(1, 0, 0)
	}
	parent, signer := i.cert, i.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// server returns the PEM of a certificate for localhost and of its key.
func (i *issuer) server(t testing.TB, key crypto.Signer) (certPEM, keyPEM []byte) {
	t.Helper()
	cert := i.sign(t, key, &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"localhost"}})
	return certificatePEM(cert), privatePEM(t, key)
}

// device returns a client certificate.
func (i *issuer) device(t testing.TB) tls.Certificate {
	t.Helper()
	key := ecdsaKey(t)
	cert := i.sign(t, key, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "device"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func ecdsaKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificatePEM(certs ...*x509.Certificate) []byte {
	var data []byte
	for _, cert := range certs {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return data
}

func privatePEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// trust returns a client's config that knows localhost by the authorities.
func trust(certs ...*x509.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	for _, cert := range certs {
		roots.AddCert(cert)
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// handshake connects client to server over TCP, has one byte sent down, and
// returns what the client saw. The byte brings session tickets, and the
// server's opinion of a client certificate, along with it.
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

// pair writes a new server certificate by root, and its key, into dir.
func pair(t testing.TB, root *issuer, dir string) Files {
	t.Helper()
	files := Files{Certificate: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server-key.pem")}
	cert, key := root.server(t, ecdsaKey(t))
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

// mustServe wants a client that trusts root to find src's server good.
func mustServe(t testing.TB, src *Source, root *x509.Certificate) {
	t.Helper()
	if _, err := handshake(t, src.ServerConfig(Options{}), trust(root)); err != nil {
		t.Fatalf("handshake: %v", err)
	}
}

// mustNotServe wants it to find the server's authority unknown.
func mustNotServe(t testing.TB, src *Source, root *x509.Certificate) {
	t.Helper()
	_, err := handshake(t, src.ServerConfig(Options{}), trust(root))
	if unknown := (x509.UnknownAuthorityError{}); !errors.As(err, &unknown) {
		t.Fatalf("handshake: %v, want an unknown authority", err)
	}
}
