package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// The files of an Authority, in the order in which they are made.
const (
	authorityKeyFile = "ca-root-key.pem"
	authorityFile    = "ca-root.pem"
	serverKeyFile    = "server-key.pem"
	serverFile       = "server.pem"
)

// maxSteps ends an Ensure that never comes to rest. Alone it takes four
// writes, and each of them can be lost to another process once.
const maxSteps = 16

// An Authority is a certificate authority of our own and the one server
// certificate that it issued, in a directory. It keeps nothing in memory: any
// number of goroutines and processes may call Ensure on one directory at once.
type Authority struct {
	// Dir holds the files, and should hold nothing else. Ensure makes it,
	// with mode 0700, if there is none.
	Dir string

	// Names are the host names and IP addresses that the server certificate
	// is for. None means LocalNames, asked at each Ensure. Processes that
	// share a directory must want the same.
	Names []string

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Status is what Ensure found and did.
type Status struct {
	// Own is set if this package has made the files. If not, nothing else is set, and
	// renewal is up to the owner of the files.
	Own bool

	// AuthorityMade is set if ca-root.pem was written. It verifies the same
	// servers as the one before it, if there was one.
	AuthorityMade bool

	// CertificateMade is set if server.pem was written: a Source over it
	// has something to reload.
	CertificateMade bool

	// RenewAt is the earliest time at which an Ensure will write again,
	// unless names change before.
	RenewAt time.Time
}

// Files returns what Load needs to serve the certificate.
func (a *Authority) Files() Files {
	return Files{
		Certificate: filepath.Join(a.Dir, serverFile),
		Key:         filepath.Join(a.Dir, serverKeyFile),
	}
}

// CertificateFile returns the path of ca-root.pem, which devices are given.
func (a *Authority) CertificateFile() string {
	return filepath.Join(a.Dir, authorityFile)
}

// Ensure makes the files that are missing and renews the certificates of which
// less than a third of their life is left or that lack one of the names. An
// authority lives ten years, a server certificate 397 days, both counted from
// an hour ago for the sake of devices whose clock is slow.
//
// Files that are not ours are left alone; it is an error if they do not
// include both server.pem and server-key.pem. An error never spoils what is
// there already: Load may still succeed.
//
// Each round looks at the files afresh and makes the one that is needed next,
// so that a crash at any point, or another process that is at the same work,
// is nothing special.
func (a *Authority) Ensure() (Status, error) {
	names, err := a.names()
	if err != nil {
		return Status{}, err
	}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return Status{}, fmt.Errorf("%w; make it, or let this process make it", err)
	}
	var status Status
	for range maxSteps {
		done, err := a.step(names, &status)
		if errors.Is(err, fs.ErrExist) {
			continue // another process was faster
		}
		if done || err != nil {
			return status, err
		}
	}
	return status, fmt.Errorf("%s: some other process keeps changing the files; end it, then try again", a.Dir)
}

// step writes at most one file, and reports whether none was needed.
func (a *Authority) step(names []string, status *Status) (done bool, err error) {
	have, err := readInventory(a.Dir)
	if err != nil {
		return false, err
	}
	if !have.ours() {
		*status = Status{}
		return true, have.usable()
	}
	now := have.clock(a.now())
	switch {
	case have.authorityKey == nil:
		return false, a.makeKey(authorityKeyFile)
	case have.authority == nil || !now.Before(renewAt(have.authority)):
		err := a.issueAuthority(have, now)
		status.AuthorityMade = status.AuthorityMade || err == nil
		return false, err
	case have.serverKey == nil:
		return false, a.makeKey(serverKeyFile)
	case !have.serverFits(names) || !now.Before(renewAt(have.server)):
		err := a.issueServer(have, names, now)
		status.CertificateMade = status.CertificateMade || err == nil
		return false, err
	}
	status.Own = true
	status.RenewAt = earliest(renewAt(have.authority), renewAt(have.server))
	return true, nil
}

func (a *Authority) makeKey(name string) error {
	data, err := newKeyPEM()
	if err != nil {
		return err
	}
	return a.write(name, data, 0o600, false)
}

func (a *Authority) issueAuthority(have *inventory, now time.Time) error {
	data, err := newAuthorityPEM(have.authorityKey, now)
	if err != nil {
		return err
	}
	return a.write(authorityFile, data, 0o644, have.authority != nil)
}

func (a *Authority) issueServer(have *inventory, names []string, now time.Time) error {
	data, err := newServerPEM(have, names, now)
	if err != nil {
		return err
	}
	return a.write(serverFile, data, 0o644, have.server != nil)
}

// write replaces only what the inventory has seen to be ours.
func (a *Authority) write(name string, data []byte, mode fs.FileMode, replaces bool) error {
	path := filepath.Join(a.Dir, name)
	var err error
	if replaces {
		err = files.Replace(path, data, mode)
	} else {
		err = files.Create(path, data, mode)
	}
	if err != nil {
		return fmt.Errorf("%s: cannot be written: %w; let this process write to its directory, and see that the disk has room", path, err)
	}
	return nil
}

func (a *Authority) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

func (a *Authority) names() ([]string, error) {
	if len(a.Names) == 0 {
		return LocalNames(), nil
	}
	for _, name := range a.Names {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("name of the server: %w; correct it", err)
		}
	}
	return a.Names, nil
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
