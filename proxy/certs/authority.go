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

// maxSteps ends an Ensure that makes no progress. Without other processes it takes four writes,
// and another process can undo each of them once.
const maxSteps = 16

// An Authority is the proxy's own certificate authority, with the one server certificate that
// it issued, in a directory. It keeps nothing in memory: any number of goroutines and processes
// may call Ensure on one directory at once.
type Authority struct {
	// Dir contains the files, and should contain nothing else. Ensure creates it, with mode
	// 0700, if it does not exist.
	Dir string

	// Names are the host names and IP addresses of the server certificate. Empty means the
	// result of LocalNames at each Ensure. Processes that share a directory must use the same
	// names.
	Names []string

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Status is the result of Ensure.
type Status struct {
	// Own reports that this package made the files. If it did not, no other field is set, and
	// the owner of the files must renew them.
	Own bool

	// AuthorityMade reports that ca-root.pem was written. It verifies the same servers as its
	// predecessor, if there was one.
	AuthorityMade bool

	// CertificateMade reports that server.pem was written, so a Source that uses it should be
	// reloaded.
	CertificateMade bool

	// RenewAt is the earliest time at which an Ensure will write again,
	// unless names change before.
	RenewAt time.Time
}

// Files returns the argument of Load that serves the certificate.
func (a *Authority) Files() Files {
	return Files{
		Certificate: filepath.Join(a.Dir, serverFile),
		Key:         filepath.Join(a.Dir, serverKeyFile),
	}
}

// CertificateFile returns the path of ca-root.pem, the certificate that devices must trust.
func (a *Authority) CertificateFile() string {
	return filepath.Join(a.Dir, authorityFile)
}

// Ensure creates missing files. It renews certificates that have less than a third of their
// lifetime left or that lack one of the names. An authority is valid for ten years and a server
// certificate for 397 days, both counted from one hour ago for devices whose clock is slow.
//
// Ensure does not touch files that this package did not make; it is an error if they do not
// include both server.pem and server-key.pem. An error never damages existing files: Load may
// still succeed.
//
// Each round reads the files again and makes the one that is needed next. It therefore does not
// matter if an earlier Ensure crashed or if another process works on the same directory.
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

// write creates a file, or replaces one that this package made.
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
