package certs

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

// Files that another program made are served and never written, whatever their dates and names.
func TestForeignFilesAreNotWritten(t *testing.T) {
	root := newIssuer(t, "root")
	own := func(t *testing.T, a *testAuthority) *x509.Certificate {
		mustEnsure(t, a.Authority)
		return mustParse(t, a.CertificateFile())
	}
	tests := []struct {
		name  string
		setUp func(t *testing.T, a *testAuthority) (trusted *x509.Certificate)
	}{
		{"a pair and nothing else", func(t *testing.T, a *testAuthority) *x509.Certificate {
			pair(t, root, a.Dir)
			return root.cert
		}},
		{"all four, by an authority that bears our name", func(t *testing.T, a *testAuthority) *x509.Certificate {
			key := certtest.NewKey()
			look := &issuer{key: key}
			look.cert = (&issuer{}).sign(key, &x509.Certificate{Subject: authoritySubject(&key.PublicKey), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
			put(t, a.CertificateFile(), certtest.PEM(look.cert))
			put(t, filepath.Join(a.Dir, authorityKeyFile), certtest.KeyPEM(key))
			leaf := certtest.NewKey()
			put(t, a.Files().Key, certtest.KeyPEM(leaf))
			put(t, a.Files().Certificate, certtest.PEM(look.sign(leaf, &x509.Certificate{Subject: serverSubject(), DNSNames: []string{"localhost"}})))
			return look.cert
		}},
		{"another pair in the place of ours", func(t *testing.T, a *testAuthority) *x509.Certificate {
			own(t, a)
			pair(t, root, a.Dir)
			return root.cert
		}},
		{"our key, another authority's certificate", func(t *testing.T, a *testAuthority) *x509.Certificate {
			own(t, a)
			put(t, a.Files().Certificate, certtest.PEM(root.sign(parseOwnKey(get(t, a.Files().Key)), &x509.Certificate{Subject: serverSubject(), DNSNames: []string{"localhost"}})))
			return root.cert
		}},
		{"a certificate that was issued with our authority by hand", func(t *testing.T, a *testAuthority) *x509.Certificate {
			trusted := own(t, a)
			authority := &issuer{trusted, parseOwnKey(get(t, filepath.Join(a.Dir, authorityKeyFile)))}
			put(t, a.Files().Certificate, certtest.PEM(authority.sign(parseOwnKey(get(t, a.Files().Key)), &x509.Certificate{Subject: pkix.Name{CommonName: "by hand"}, DNSNames: []string{"localhost"}})))
			return trusted
		}},
		{"our certificate with its authority appended", func(t *testing.T, a *testAuthority) *x509.Certificate {
			trusted := own(t, a)
			put(t, a.Files().Certificate, get(t, a.Files().Certificate), certtest.PEM(trusted))
			return trusted
		}},
		{"the authority's key was taken away", func(t *testing.T, a *testAuthority) *x509.Certificate {
			trusted := own(t, a)
			if err := os.Remove(filepath.Join(a.Dir, authorityKeyFile)); err != nil {
				t.Fatal(err)
			}
			return trusted
		}},
		{"the mark was taken off the key", func(t *testing.T, a *testAuthority) *x509.Certificate {
			trusted := own(t, a)
			path := filepath.Join(a.Dir, serverKeyFile)
			put(t, path, bytes.TrimPrefix(get(t, path), []byte(ownKeyMark)))
			return trusted
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := newTestAuthority(t.TempDir())
			trusted := test.setUp(t, a)
			before := snapshot(t, a.Dir)
			for _, a.now = range []time.Time{a.now, a.now.AddDate(20, 0, 0), time.Unix(0, 0)} {
				a.Names = append(a.Names, "one-more")
				if status := mustEnsure(t, a.Authority); status != (Status{}) {
					t.Errorf("Ensure() = %+v", status)
				}
			}
			mustDiffer(t, a.Dir, before)
			if len(snapshot(t, a.Dir)) != len(before) {
				t.Error("files came or went")
			}
			mustServe(t, mustLoad(t, a.Files()), trusted)
		})
	}
}

// If only some of the files exist and another program made them, the error says which one is
// missing.
func TestForeignFilesIncomplete(t *testing.T) {
	root := newIssuer(t, "root")
	cert, key := root.server(t, certtest.NewKey())
	tests := []struct {
		name  string
		files map[string][]byte
		want  []string
	}{
		{"certificate without key", map[string][]byte{serverFile: cert}, []string{serverKeyFile + ": missing", "(server.pem)"}},
		{"key without certificate", map[string][]byte{serverKeyFile: key}, []string{serverFile + ": missing", "(server-key.pem)"}},
		{"authority alone", map[string][]byte{authorityFile: cert}, []string{serverFile + ": missing", "(ca-root.pem)"}},
		{"authority and key, not ours", map[string][]byte{authorityFile: cert, authorityKeyFile: key}, []string{serverFile + ": missing", "(ca-root-key.pem, ca-root.pem)"}},
		{"empty file", map[string][]byte{authorityKeyFile: nil}, []string{serverFile + ": missing", "(ca-root-key.pem)"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := newTestAuthority(t.TempDir())
			for name, data := range test.files {
				put(t, filepath.Join(a.Dir, name), data)
			}
			before := snapshot(t, a.Dir)
			status, err := a.Ensure()
			if err == nil || status != (Status{}) {
				t.Fatalf("Ensure() = %+v, %v", status, err)
			}
			for _, want := range append(test.want, a.Dir, "move those files away") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
			mustDiffer(t, a.Dir, before)
		})
	}
}

// A file that appears while Ensure makes the same one is not replaced.
func TestForeignFileArrives(t *testing.T) {
	a := newTestAuthority(t.TempDir())
	mustEnsure(t, a.Authority)
	if err := os.Remove(a.Files().Certificate); err != nil {
		t.Fatal(err)
	}
	have, err := readInventory(a.Dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, a.Files().Certificate, []byte("somebody else's"))
	before := snapshot(t, a.Dir)
	if err := a.issueServer(have, a.Names, a.now); !errors.Is(err, fs.ErrExist) {
		t.Errorf("issueServer() = %v, want that it exists", err)
	}
	mustDiffer(t, a.Dir, before)
}

// An authority that was copied from another machine, so that devices need to trust only one,
// issues the certificate of this machine.
func TestSharedAuthority(t *testing.T) {
	first, second := newTestAuthority(t.TempDir()), newTestAuthority(t.TempDir())
	mustEnsure(t, first.Authority)
	for _, name := range []string{authorityFile, authorityKeyFile} {
		put(t, filepath.Join(second.Dir, name), get(t, filepath.Join(first.Dir, name)))
	}
	before := snapshot(t, second.Dir)
	mustEnsure(t, second.Authority)
	mustDiffer(t, second.Dir, before, serverFile, serverKeyFile)
	mustServe(t, mustLoad(t, second.Files()), mustParse(t, first.CertificateFile()))
}
