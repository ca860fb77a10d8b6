package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var allFiles = []string{authorityKeyFile, authorityFile, serverKeyFile, serverFile}

// testAuthority has names that do not depend on the machine, and a clock that the test sets.
type testAuthority struct {
	*Authority
	now time.Time
}

func newTestAuthority(dir string) *testAuthority {
	a := &testAuthority{now: time.Now()}
	a.Authority = &Authority{
		Dir:   dir,
		Names: []string{"localhost", "gateway", "127.0.0.1", "::1"},
		Now:   func() time.Time { return a.now },
	}
	return a
}

func mustEnsure(t testing.TB, a *Authority) Status {
	t.Helper()
	status, err := a.Ensure()
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// snapshot returns the content and the time of every file in a directory.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = info.ModTime().String() + string(get(t, filepath.Join(dir, e.Name())))
	}
	return files
}

// mustDiffer checks that exactly these files are new or have changed since before.
func mustDiffer(t testing.TB, dir string, before map[string]string, want ...string) {
	t.Helper()
	wanted := make(map[string]bool)
	for _, name := range want {
		wanted[name] = true
	}
	for name, content := range snapshot(t, dir) {
		if (content != before[name]) != wanted[name] {
			t.Errorf("%s: written is %v, want %v", name, content != before[name], wanted[name])
		}
	}
}

func TestEnsureMakesWhatClientsAccept(t *testing.T) {
	a := newTestAuthority(filepath.Join(t.TempDir(), "data", "tls")).Authority
	status := mustEnsure(t, a)
	if !status.Own || !status.AuthorityMade || !status.CertificateMade {
		t.Errorf("first Ensure() = %+v", status)
	}
	server := mustLoad(t, a.Files()).ServerConfig(Options{})
	root := mustParse(t, a.CertificateFile())
	for _, name := range a.Names {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client := trust(root)
			client.ServerName, client.MinVersion, client.MaxVersion = name, version, version
			if _, err := handshake(t, server, client); err != nil {
				t.Errorf("%s to %s: %v", tls.VersionName(version), name, err)
			}
		}
	}
	stranger := trust(root)
	stranger.ServerName = "elsewhere"
	if _, err := handshake(t, server, stranger); err == nil {
		t.Error("a foreign name was accepted")
	}

	before := snapshot(t, a.Dir)
	if again := mustEnsure(t, a); !again.Own || again.AuthorityMade || again.CertificateMade || !again.RenewAt.Equal(status.RenewAt) {
		t.Errorf("second Ensure() = %+v", again)
	}
	mustDiffer(t, a.Dir, before)
}

// The zero Authority uses the machine's own names.
func TestEnsureDefaults(t *testing.T) {
	a := &Authority{Dir: t.TempDir()}
	mustEnsure(t, a)
	src := mustLoad(t, a.Files())
	if !covers(src.Leaf(), LocalNames()) {
		t.Errorf("%s, %s do not cover %s", src.Leaf().DNSNames, src.Leaf().IPAddresses, LocalNames())
	}
	mustServe(t, src, mustParse(t, a.CertificateFile()))
}

func TestCertificatesAreConfined(t *testing.T) {
	a := newTestAuthority(t.TempDir())
	mustEnsure(t, a.Authority)
	root, leaf := mustParse(t, a.CertificateFile()), mustParse(t, a.Files().Certificate)
	if !root.IsCA || root.MaxPathLen != 0 || !root.MaxPathLenZero || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("authority: CA %v, path length %d, key usage %b", root.IsCA, root.MaxPathLen, root.KeyUsage)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("server: CA %v, key usage %b, extended %v", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	start := a.now.Add(-time.Hour).UTC().Truncate(time.Second)
	for cert, end := range map[*x509.Certificate]time.Time{root: start.AddDate(10, 0, 0), leaf: start.AddDate(0, 0, 397)} {
		if !cert.NotBefore.Equal(start) || !cert.NotAfter.Equal(end) {
			t.Errorf("%s: from %s to %s, want %s to %s", cert.Subject, cert.NotBefore, cert.NotAfter, start, end)
		}
	}
	if !bytes.Equal(leaf.AuthorityKeyId, root.SubjectKeyId) || len(root.SubjectKeyId) != 20 {
		t.Errorf("the server's certificate points to authority %x, not %x", leaf.AuthorityKeyId, root.SubjectKeyId)
	}
	if n := len(get(t, a.Files().Certificate)); n > 1200 {
		t.Errorf("server.pem is %d bytes: is it more than the leaf?", n)
	}
}

func TestModes(t *testing.T) {
	a := newTestAuthority(filepath.Join(t.TempDir(), "tls"))
	check := func() {
		t.Helper()
		for path, want := range map[string]fs.FileMode{
			a.Dir: 0o700 | fs.ModeDir, a.CertificateFile(): 0o644, filepath.Join(a.Dir, authorityKeyFile): 0o600,
			a.Files().Certificate: 0o644, a.Files().Key: 0o600,
		} {
			if info, err := os.Stat(path); err != nil || info.Mode() != want {
				t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
			}
		}
		if entries, err := os.ReadDir(a.Dir); err != nil || len(entries) != len(allFiles) {
			t.Errorf("%v, %v in the directory, want just the files", entries, err)
		}
	}
	mustEnsure(t, a.Authority)
	check()
	a.now = a.now.AddDate(9, 0, 0)
	mustEnsure(t, a.Authority)
	check()
}

// After a crash at any point, even within a write, the next start completes the directory
// without changing the files that are there.
func TestEnsureAfterCrash(t *testing.T) {
	for writes := range len(allFiles) + 1 {
		a := newTestAuthority(t.TempDir())
		for range writes {
			if done, err := a.step(a.Names, &Status{}); done || err != nil {
				t.Fatalf("step: %v, %v", done, err)
			}
		}
		for _, name := range allFiles {
			put(t, filepath.Join(a.Dir, "."+name+".123"), []byte("-----BEGIN half a fi"))
		}
		before := snapshot(t, a.Dir)
		if status := mustEnsure(t, a.Authority); !status.Own {
			t.Errorf("after %d writes: not taken for our own", writes)
		}
		mustDiffer(t, a.Dir, before, allFiles[writes:]...)
		mustServe(t, mustLoad(t, a.Files()), mustParse(t, a.CertificateFile()))
	}
}

// If one of the files is lost, or a certificate no longer belongs to its key, Ensure makes it
// again as long as the authority's key exists; devices do not notice.
func TestEnsureRepairsItsOwnFiles(t *testing.T) {
	tests := []struct {
		lost    []string
		written []string
	}{
		{[]string{serverFile}, []string{serverFile}},
		{[]string{serverKeyFile}, []string{serverKeyFile, serverFile}},
		{[]string{serverKeyFile, serverFile}, []string{serverKeyFile, serverFile}},
		{[]string{authorityFile}, []string{authorityFile}},
		{[]string{authorityFile, serverFile}, []string{authorityFile, serverFile}},
	}
	for _, test := range tests {
		a := newTestAuthority(t.TempDir())
		mustEnsure(t, a.Authority)
		root := mustParse(t, a.CertificateFile())
		for _, name := range test.lost {
			if err := os.Remove(filepath.Join(a.Dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		before := snapshot(t, a.Dir)
		mustEnsure(t, a.Authority)
		mustDiffer(t, a.Dir, before, test.written...)
		mustServe(t, mustLoad(t, a.Files()), root)
	}
}

// An Ensure that runs while another one creates files must not mistake the incomplete set for
// files of a foreign authority.
func TestEnsureWhileAnotherCreates(t *testing.T) {
	for range 60 {
		a := newTestAuthority(t.TempDir())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := a.Ensure(); err != nil {
				t.Error(err)
			}
		}()
		for running(done) {
			if have, err := readInventory(a.Dir); err != nil || !have.ours() {
				t.Errorf("not ours: %v, %v", have.usable(), err)
			}
		}
	}
}

// Authorities share no memory, so these goroutines stand for processes as well.
func TestEnsureConcurrently(t *testing.T) {
	dir := t.TempDir()
	for _, years := range []int{0, 1, 8} {
		var processes sync.WaitGroup
		for range 8 {
			processes.Go(func() {
				a := newTestAuthority(dir)
				a.now = a.now.AddDate(years, 0, 0)
				if status, err := a.Ensure(); err != nil || !status.Own {
					t.Errorf("Ensure() = %+v, %v", status, err)
				}
				if _, err := Load(a.Files()); err != nil {
					t.Errorf("Load right after: %v", err)
				}
			})
		}
		processes.Wait()
	}
	a := newTestAuthority(dir)
	a.now = a.now.AddDate(8, 0, 0)
	before := snapshot(t, dir)
	mustEnsure(t, a.Authority)
	mustDiffer(t, dir, before)
	if len(before) != len(allFiles) {
		t.Errorf("%d files are left, want %d", len(before), len(allFiles))
	}
}

func TestEnsureErrors(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"))
	link(t, "nowhere", filepath.Join(dir, authorityKeyFile))
	tests := []struct {
		authority Authority
		want      string
	}{
		{Authority{Dir: filepath.Join(dir, "file")}, "not a directory"},
		{Authority{Dir: dir}, filepath.Join(dir, authorityKeyFile) + ": cannot be read"},
		{Authority{Dir: dir, Names: []string{"two words"}}, `"two words" is neither a host name nor an IP address`},
		{Authority{Dir: dir + "/new", Names: []string{"a"}, Now: func() time.Time { return time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }}, "issue a certificate for mqtt-auth-proxy CA"},
	}
	for _, test := range tests {
		if status, err := test.authority.Ensure(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Ensure() = %+v, %v; want %q", status, err, test.want)
		}
	}
}
