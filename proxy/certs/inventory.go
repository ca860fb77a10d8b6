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

// inventory is what the directory of an Authority holds. The keys and
// certificates are nil where there is no file or where it is not ours.
type inventory struct {
	dir          string
	files        map[string][]byte // by name, those that exist
	authorityKey *ecdsa.PrivateKey
	authority    *x509.Certificate
	serverKey    *ecdsa.PrivateKey
	server       *x509.Certificate
}

// readInventory reads what is made last first: a set that another process is
// making at the same time then never seems to lack what came before.
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

// isSymlink distinguishes a link that leads nowhere from a missing file: the first
// must not be taken for room to write.
func isSymlink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// ours reports whether every file there is ours. Certificates are only
// recognised with the authority's key at hand. No file at all is ours, too.
func (have *inventory) ours() bool {
	var count int
	for _, ours := range []bool{have.authorityKey != nil, have.authority != nil, have.serverKey != nil, have.server != nil} {
		if ours {
			count++
		}
	}
	return count == len(have.files)
}

// usable wants files that are not ours to include a certificate and its key.
// Whether the two are any good is for Load to say.
func (have *inventory) usable() error {
	for _, name := range []string{serverFile, serverKeyFile} {
		if _, ok := have.files[name]; !ok {
			return fmt.Errorf("%s: missing, and not made because the directory holds files of somebody else or an authority without its key (%s); add it, or move those away to have all made anew",
				filepath.Join(have.dir, name), strings.Join(slices.Sorted(maps.Keys(have.files)), ", "))
		}
	}
	return nil
}

// serverFits reports whether the certificate is there, for the key that is
// there, and for all of the names.
func (have *inventory) serverFits(names []string) bool {
	return have.server != nil && have.serverKey.PublicKey.Equal(have.server.PublicKey) && covers(have.server, names)
}

// clock returns now, or, if that is later, the time at which the newest of the
// certificates was valid already. Machines without a battery wake up in 1970;
// a certificate issued then would have expired as soon as they learn the time.
func (have *inventory) clock(now time.Time) time.Time {
	for _, cert := range []*x509.Certificate{have.authority, have.server} {
		if cert != nil && now.Before(cert.NotBefore) {
			now = cert.NotBefore
		}
	}
	return now
}
