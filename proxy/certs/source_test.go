package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

func TestSourceServesWhatTheFilesHold(t *testing.T) {
	root := newIssuer(t, "root")
	src := mustLoad(t, pair(t, root, t.TempDir()))
	mustServe(t, src, root.cert)
	mustNotServe(t, src, newIssuer(t, "another root").cert)

	leaf := src.Leaf()
	if leaf.Subject.CommonName != "server" || leaf.VerifyHostname("localhost") != nil {
		t.Errorf("Leaf() is for %s, %s", leaf.Subject, leaf.DNSNames)
	}
	if sum := sha256.Sum256(leaf.Raw); src.Fingerprint() != hex.EncodeToString(sum[:]) {
		t.Errorf("Fingerprint() = %s, want %x", src.Fingerprint(), sum)
	}
	if src.RSA() {
		t.Error("RSA() = true for an ECDSA key")
	}
}

func TestSourceOfOneFile(t *testing.T) {
	root := newIssuer(t, "root")
	middle := root.subordinate(t, "middle")
	cert, key := middle.server(t, rsaKey(t))
	path := filepath.Join(t.TempDir(), "all.pem")
	put(t, path, key, cert, certtest.PEM(middle.cert))
	src := mustLoad(t, Files{Certificate: path})
	mustServe(t, src, root.cert)
	if !src.RSA() {
		t.Error("RSA() = false for an RSA key")
	}
}

func TestSourceServesExpired(t *testing.T) {
	root, key, dir := newIssuer(t, "root"), certtest.NewKey(), t.TempDir()
	cert := root.sign(key, &x509.Certificate{
		DNSNames:  []string{"localhost"},
		NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter:  time.Now().Add(-24 * time.Hour),
	})
	path := filepath.Join(dir, "all.pem")
	put(t, path, certtest.PEM(cert), certtest.KeyPEM(key))
	src := mustLoad(t, Files{Certificate: path})
	if !src.Leaf().NotAfter.Before(time.Now()) {
		t.Error("Leaf() does not show that it has expired")
	}

	_, err := handshake(t, src.ServerConfig(Options{}), trust(root.cert))
	if invalid := (x509.CertificateInvalidError{}); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("client with a clock: %v, want that it has expired", err)
	}
	clockless := trust(root.cert)
	clockless.Time = func() time.Time { return cert.NotBefore }
	if _, err := handshake(t, src.ServerConfig(Options{}), clockless); err != nil {
		t.Errorf("client without a clock: %v", err)
	}
}

func TestReloadInPlace(t *testing.T) {
	before, after, dir := newIssuer(t, "before"), newIssuer(t, "after"), t.TempDir()
	src := mustLoad(t, pair(t, before, dir))
	mustReload(t, src, false)
	first := src.Fingerprint()
	pair(t, after, dir)
	mustReload(t, src, true)
	mustReload(t, src, false)
	mustServe(t, src, after.cert)
	if src.Fingerprint() == first {
		t.Error("Fingerprint() is still the old one")
	}
}

func TestReloadByRename(t *testing.T) {
	before, after, dir := newIssuer(t, "before"), newIssuer(t, "after"), t.TempDir()
	src := mustLoad(t, pair(t, before, dir))
	next := pair(t, after, t.TempDir())
	// Only the content counts: an older file is accepted as well.
	for _, path := range []string{next.Certificate, next.Key} {
		if err := os.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{next.Key: src.files.Key, next.Certificate: src.files.Certificate} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	mustReload(t, src, true)
	mustServe(t, src, after.cert)
}

// Kubernetes mounts secrets like this: server.pem -> ..data/server.pem, and ..data ->
// ..2026_01, which is swapped.
func TestReloadBySymlinkSwap(t *testing.T) {
	before, after, dir := newIssuer(t, "before"), newIssuer(t, "after"), t.TempDir()
	for name, root := range map[string]*issuer{"..2026_01": before, "..2026_02": after} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		pair(t, root, filepath.Join(dir, name))
	}
	files := Files{Certificate: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server-key.pem")}
	link(t, "..2026_01", filepath.Join(dir, "..data"))
	link(t, "..data/server.pem", files.Certificate)
	link(t, "..data/server-key.pem", files.Key)
	src := mustLoad(t, files)
	mustServe(t, src, before.cert)

	link(t, "..2026_02", filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	mustReload(t, src, true)
	mustServe(t, src, after.cert)
}

func link(t testing.TB, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// The old pair stays in use in every state that a writer passes through on the way to a new
// pair, and the last state puts the new pair into use.
func TestReloadWhilePairIsWritten(t *testing.T) {
	before, after, dir := newIssuer(t, "before"), newIssuer(t, "after"), t.TempDir()
	src := mustLoad(t, pair(t, before, dir))
	cert, key := after.server(t, certtest.NewKey())
	states := []struct {
		path string
		data []byte
	}{
		{src.files.Certificate, nil},
		{src.files.Certificate, cert[:len(cert)/2]},
		{src.files.Certificate, cert},
		{src.files.Key, nil},
		{src.files.Key, key[:len(key)/2]},
	}
	for _, s := range states {
		put(t, s.path, s.data)
		for range 2 { // the error is reported every time
			changed, err := src.Reload()
			if changed || err == nil || !strings.HasPrefix(err.Error(), dir) {
				t.Fatalf("%d bytes of %s: Reload() = %v, %v", len(s.data), filepath.Base(s.path), changed, err)
			}
		}
		mustServe(t, src, before.cert)
	}
	put(t, src.files.Key, key)
	mustReload(t, src, true)
	mustServe(t, src, after.cert)
}

func TestReloadMissingFile(t *testing.T) {
	root := newIssuer(t, "root")
	src := mustLoad(t, pair(t, root, t.TempDir()))
	if err := os.Remove(src.files.Key); err != nil {
		t.Fatal(err)
	}
	changed, err := src.Reload()
	if changed || !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), src.files.Key) != 1 {
		t.Errorf("Reload() = %v, %v", changed, err)
	}
	mustServe(t, src, root.cert)
}

func TestReloadBackToWhatIsServed(t *testing.T) {
	root := newIssuer(t, "root")
	src := mustLoad(t, pair(t, root, t.TempDir()))
	good := get(t, src.files.Certificate)
	put(t, src.files.Certificate, []byte("junk"))
	if _, err := src.Reload(); err == nil {
		t.Fatal("junk was loaded")
	}
	put(t, src.files.Certificate, good)
	mustReload(t, src, false)
}

func TestReadIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.pem")
	put(t, path, bytes.Repeat([]byte("\n"), maxFile+1))
	if _, err := Load(Files{Certificate: path}); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("Load() of a huge file: %v", err)
	}
}

func TestHandshakesDuringReloads(t *testing.T) {
	roots := []*issuer{newIssuer(t, "a"), newIssuer(t, "b")}
	dir := t.TempDir()
	src := mustLoad(t, pair(t, roots[0], dir))
	server := src.ServerConfig(Options{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 25 {
				if _, err := handshake(t, server, trust(roots[0].cert, roots[1].cert)); err != nil {
					t.Errorf("handshake: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		clients.Wait()
		close(done)
	}()
	swaps := reloadUntil(t, done, src, roots)
	if swaps == 0 {
		t.Error("nothing was reloaded meanwhile")
	}
}

// reloadUntil reloads src on two goroutines while its pair is replaced again and again, until
// done is closed. It returns how often a new pair was put into use.
func reloadUntil(t *testing.T, done <-chan struct{}, src *Source, roots []*issuer) (swaps int) {
	t.Helper()
	var other sync.WaitGroup
	other.Go(func() {
		for running(done) {
			_, _ = src.Reload() // fails between the two writes
			_ = src.Fingerprint()
		}
	})
	defer other.Wait()
	dir := filepath.Dir(src.files.Key)
	last := src.Fingerprint()
	for i := 1; running(done); i++ {
		pair(t, roots[i%2], dir)
		if _, err := src.Reload(); err != nil {
			t.Errorf("Reload() of a whole pair: %v", err)
		}
		if !bytes.Equal(src.Leaf().Raw, mustParse(t, src.files.Certificate).Raw) {
			t.Error("an older pair is served after Reload")
		}
		if now := src.Fingerprint(); now != last {
			last = now
			swaps++
		}
	}
	return swaps
}

func running(done <-chan struct{}) bool {
	select {
	case <-done:
		return false
	default:
		return true
	}
}

func TestServerConfigDoesNotAllocateToPickACertificate(t *testing.T) {
	src := mustLoad(t, pair(t, newIssuer(t, "root"), t.TempDir()))
	get := src.ServerConfig(Options{}).GetCertificate
	hello := &tls.ClientHelloInfo{}
	if n := testing.AllocsPerRun(100, func() { _, _ = get(hello) }); n != 0 {
		t.Errorf("GetCertificate allocates %v times", n)
	}
}

// TestPollWaitsForTheWriter: a file may be half written when Poll first finds it changed.
func TestPollWaitsForTheWriter(t *testing.T) {
	first, second, dir := newIssuer(t, "first"), newIssuer(t, "second"), t.TempDir()
	files := pair(t, newIssuer(t, "root"), dir)
	files.ClientCA = filepath.Join(dir, "devices.pem")
	put(t, files.ClientCA, certtest.PEM(first.cert, second.cert))
	src := mustLoad(t, files)
	poll := func(wantChanged, wantPending bool) {
		t.Helper()
		if changed, pending, err := src.Poll(); changed != wantChanged || pending != wantPending || err != nil {
			t.Errorf("Poll() = %v, %v, %v; want %v, %v", changed, pending, err, wantChanged, wantPending)
		}
	}
	poll(false, false)
	put(t, files.ClientCA, certtest.PEM(first.cert))
	poll(false, true)
	put(t, files.ClientCA, certtest.PEM(first.cert, second.cert, first.cert))
	poll(false, true)
	if n := len(src.ClientCAs()); n != 2 {
		t.Errorf("%d authorities, want 2 still", n)
	}
	poll(true, false)
	poll(false, false)
	put(t, files.ClientCA, nil)
	poll(false, true)
	if _, _, err := src.Poll(); err == nil {
		t.Error("an empty file is taken up")
	}
	put(t, files.ClientCA, certtest.PEM(first.cert))
	mustReload(t, src, true) // Reload uses it at once
}
