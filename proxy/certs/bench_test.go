package certs

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// BenchmarkHandshake measures both ends of a full TLS 1.3 handshake with Go's defaults, up to
// the first byte from the server, without a network.
func BenchmarkHandshake(b *testing.B) {
	a := newTestAuthority(b.TempDir())
	mustEnsure(b, a.Authority)
	b.Run("own-P256", func(b *testing.B) {
		benchmarkHandshake(b, mustLoad(b, a.Files()), trust(mustParse(b, a.CertificateFile())))
	})
	b.Run("RSA2048", func(b *testing.B) {
		root := newIssuer(b, "root")
		cert, key := root.server(b, rsaKey(b))
		path := filepath.Join(b.TempDir(), "all.pem")
		put(b, path, cert, key)
		benchmarkHandshake(b, mustLoad(b, Files{Certificate: path}), trust(root.cert))
	})
}

func benchmarkHandshake(b *testing.B, src *Source, client *tls.Config) {
	server := src.ServerConfig(Options{})
	client.MinVersion = tls.VersionTLS13
	one := make([]byte, 1)
	b.ReportAllocs()
	for b.Loop() {
		near, far := net.Pipe()
		served := make(chan error, 1)
		go func() {
			_, err := tls.Server(far, server).Write([]byte{0})
			served <- err
		}()
		if _, err := io.ReadFull(tls.Client(near, client), one); err != nil {
			b.Fatal(err)
		}
		if err := <-served; err != nil {
			b.Fatal(err)
		}
		_ = near.Close()
	}
}

// BenchmarkReload measures a reload of unchanged files.
func BenchmarkReload(b *testing.B) {
	src := mustLoad(b, pair(b, newIssuer(b, "root"), b.TempDir()))
	b.ReportAllocs()
	for b.Loop() {
		mustReload(b, src, false)
	}
}

// BenchmarkEnsure measures an Ensure that has nothing to do.
func BenchmarkEnsure(b *testing.B) {
	a := newTestAuthority(b.TempDir())
	mustEnsure(b, a.Authority)
	b.ReportAllocs()
	for b.Loop() {
		mustEnsure(b, a.Authority)
	}
}
