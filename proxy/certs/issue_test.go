package certs

import (
	"bytes"
	"path/filepath"
	"testing"
)

// FuzzOwn tests the parsers that decide whether Ensure made the files of a directory.
func FuzzOwn(f *testing.F) {
	a := newTestAuthority(f.TempDir())
	mustEnsure(f, a.Authority)
	files := make(map[string][]byte)
	for _, name := range allFiles {
		files[name] = get(f, filepath.Join(a.Dir, name))
	}
	genuine, leaf := parseOwnKey(files[authorityKeyFile]), mustParse(f, a.Files().Certificate)
	f.Add(files[authorityKeyFile], files[serverFile])
	f.Add(files[serverKeyFile], files[authorityFile])
	f.Add([]byte(ownKeyMark), []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Add(bytes.TrimPrefix(files[authorityKeyFile], []byte(ownKeyMark)), files[serverFile])
	f.Fuzz(func(t *testing.T, key, cert []byte) {
		if own := parseOwnKey(key); own != nil && !bytes.HasPrefix(key, []byte(ownKeyMark)) {
			t.Error("a key without the mark is ours")
		}
		if own := parseIssued(cert, serverSubject(), &genuine.PublicKey); own != nil && !bytes.Equal(own.RawTBSCertificate, leaf.RawTBSCertificate) {
			t.Error("a certificate that was never issued is ours")
		}
	})
}
