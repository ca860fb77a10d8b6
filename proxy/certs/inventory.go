package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// inventory describes the directory of an Authority. A key or certificate is nil if the file
// does not exist or was not made by this package.
type inventory struct {
	dir          string
	files        map[string][]byte // the files that exist, by name
	authorityKey *ecdsa.PrivateKey
	authority    *x509.Certificate
	serverKey    *ecdsa.PrivateKey
	server       *x509.Certificate
}

// readInventory reads the files in the reverse order of their creation. If another process
// creates them at the same time, a file that is found then never lacks the files it depends on.
func readInventory(dir string) (*inventory, error) {
	have := &inventory{dir: dir, files: make(map[string][]byte)}
	for _, name := range []string{serverFile, serverKeyFile, authorityFile, authorityKeyFile} {
		data, err := readFile(filepath.Join(dir, name))
		switch {
		case err == nil:
			have.files[name] = data
		case !errors.Is(err, fs.ErrNotExist) || isSymlink(filepath.Join(dir, name)):
			return nil, err
		}
	}
	have.serverKey = parseOwnKey(have.files[serverKeyFile])
	have.authorityKey = parseOwnKey(have.files[authorityKeyFile])
	if have.authorityKey == nil {
		return have, nil
	}
	issuer := &have.authorityKey.PublicKey
	have.server = parseIssued(have.files[serverFile], serverSubject(), issuer)
	have.authority = parseIssued(have.files[authorityFile], authoritySubject(issuer), issuer)
	return have, nil
}

// isSymlink distinguishes a broken link from a missing file. A broken link must not be
// replaced.
func isSymlink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// ours reports whether this package made every file that exists. Certificates are only
// recognized together with the authority's key. An empty directory counts as ours.
func (have *inventory) ours() bool {
	var count int
	for _, ours := range []bool{have.authorityKey != nil, have.authority != nil, have.serverKey != nil, have.server != nil} {
		if ours {
			count++
		}
	}
	return count == len(have.files)
}

// usable returns an error unless files that are not ours include a certificate and its key.
// Load checks their content.
func (have *inventory) usable() error {
	for _, name := range []string{serverFile, serverKeyFile} {
		if _, ok := have.files[name]; !ok {
			return fmt.Errorf("%s: missing, and not made because the directory has files that the proxy did not make, or an authority without its key (%s); add the file, or move those files away to have all made anew",
				filepath.Join(have.dir, name), strings.Join(slices.Sorted(maps.Keys(have.files)), ", "))
		}
	}
	return nil
}

// serverFits reports whether the server certificate exists, belongs to the key and has all of
// the names.
func (have *inventory) serverFits(names []string) bool {
	return have.server != nil && have.serverKey.PublicKey.Equal(have.server.PublicKey) && covers(have.server, names)
}

// clock returns now or, if that is later, the start of the validity of the newest certificate.
// A machine without a battery for its clock starts in 1970, and a certificate issued then would
// have expired as soon as the machine learns the time.
func (have *inventory) clock(now time.Time) time.Time {
	for _, cert := range []*x509.Certificate{have.authority, have.server} {
		if cert != nil && now.Before(cert.NotBefore) {
			now = cert.NotBefore
		}
	}
	return now
}
