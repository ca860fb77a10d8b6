package tokenfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// CreateOptions describes a token to be made.
type CreateOptions struct {
	// Name is the device: the grant's subject, 1 to 256 bytes without control
	// characters, and neither "." nor "..". It may have tokens already; they stay good.
	Name string
	// Token is taken instead of a new one, for devices that have theirs already.
	// It has 8 bytes or more, and should have 16.
	Token authz.Token
	// Expires is when the token ends, in whole seconds; zero means never.
	Expires time.Time
	// ClientIDs binds the token to client identifiers; an entry that ends in *
	// stands for all that begin so. Empty means any.
	ClientIDs []string
	// Comment is kept in the file and has no effect: at most 1024 bytes without
	// control characters.
	Comment string
}

// Created is a token that was made.
type Created struct {
	// ID is the token's handle, Name the device.
	ID, Name string
	// Token is what the device needs. The file has its hash only: this is the
	// one chance to see it.
	Token authz.Token
	// Expires is when the token ends; zero means never.
	Expires time.Time
	// Warning is what is weak about a token that was given, empty if nothing is.
	Warning string
}

func (o CreateOptions) check(now time.Time) error {
	if err := checkName(o.Name, maxSubject); err != nil {
		return fmt.Errorf("the name: %w", err)
	}
	if o.Name == "." || o.Name == ".." {
		return errors.New("the name: . and .. cannot be in the path of a URL, so that the device could not be queried; choose another")
	}
	if !o.Token.IsZero() {
		if err := checkGiven(o.Token); err != nil {
			return fmt.Errorf("the token: %w", err)
		}
	}
	if err := checkExpiry(o.Expires, now); err != nil {
		return err
	}
	if o.Comment != "" {
		if err := checkName(o.Comment, maxComment); err != nil {
			return fmt.Errorf("the comment: %w", err)
		}
	}
	for _, id := range o.ClientIDs {
		if _, err := pattern(id); err != nil {
			return fmt.Errorf("the client id: %w", err)
		}
	}
	return nil
}

func checkExpiry(expires, now time.Time) error {
	switch {
	case expires.IsZero():
	case expires.Unix() <= now.Unix():
		return errors.New("the expiry has passed already")
	case expires.Unix() > latest:
		return errors.New("the expiry is too far in the future")
	}
	return nil
}

// Create adds a token for a device to the file at path, which it makes if there
// is none.
func Create(path string, o CreateOptions) (made Created, err error) {
	err = edit(path, true, func(d *document) (err error) {
		made, err = d.create(o, time.Now())
		return err
	})
	return made, err
}

// Rotate makes a new token for a device that has one. The new token has the
// conditions of the device's last one that is not disabled, and lives as long as
// that was meant to. Without an overlap the old tokens are taken out in the same
// write; with one they stay good that long, rounded down to seconds, unless they
// expire before. Old tokens that have expired, or would not begin by then, are
// taken out either way.
func Rotate(path, name string, overlap time.Duration) (made Created, err error) {
	err = edit(path, false, func(d *document) (err error) {
		made, err = d.rotate(name, overlap, time.Now())
		return err
	})
	return made, err
}

// Revoke takes tokens out of the file: the one of that id and all of the device
// of that name. It returns their ids.
func Revoke(path, idOrName string) (ids []string, err error) {
	err = edit(path, false, func(d *document) (err error) {
		ids, err = d.revoke(idOrName)
		return err
	})
	return ids, err
}

// Disable switches tokens off, named as for [Revoke]. They stay in the file.
func Disable(path, idOrName string) (ids []string, err error) {
	err = edit(path, false, func(d *document) (err error) {
		ids, err = d.setDisabled(idOrName, true)
		return err
	})
	return ids, err
}

// Enable switches tokens on again, named as for [Revoke].
func Enable(path, idOrName string) (ids []string, err error) {
	err = edit(path, false, func(d *document) (err error) {
		ids, err = d.setDisabled(idOrName, false)
		return err
	})
	return ids, err
}

// Extend gives tokens, named as for [Revoke], another end, in whole seconds; zero means
// that they never end. An end that comes sooner than the one before ends their sessions
// when it comes. It returns the ids.
func Extend(path, idOrName string, expires time.Time) (ids []string, err error) {
	if err := checkExpiry(expires, time.Now()); err != nil {
		return nil, err
	}
	err = edit(path, false, func(d *document) (err error) {
		ids, err = d.setExpiry(idOrName, expires)
		return err
	})
	return ids, err
}

// edit lets change work on the file at path, which may be a link, and writes the
// result if there is one. Nothing is written unless it can be read back.
func edit(path string, create bool, change func(*document) error) error {
	target, err := resolve(path, create)
	if err != nil {
		return err
	}
	unlock, err := lock(target)
	if err != nil {
		return err
	}
	defer unlock()
	data, old, err := contents(target, create)
	if err != nil {
		return err
	}
	d, err := parseDocument(data)
	if err != nil {
		return named(err, path)
	}
	if err := change(d); err != nil || !d.changed {
		return err
	}
	data = d.bytes()
	if _, err := parseDocument(data); err != nil {
		return fmt.Errorf("the change would break the file: %w", named(err, path))
	}
	return replaceFile(target, data, old)
}

// resolve follows links, so that the file is replaced and not the link to it. It
// makes the directory of a file that is to be created.
func resolve(path string, create bool) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if err == nil || !create || !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	// A file may have been made in the meantime; a link that leads nowhere stays.
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fmt.Errorf("%s is a link that leads nowhere; take it away, or make what it points to", path)
	}
	return path, os.MkdirAll(filepath.Dir(path), 0o700)
}

// contents reads the file whole. A file that is missing has the content with
// which it is to be created.
func contents(path string, create bool) ([]byte, fs.FileInfo, error) {
	f, err := open(path)
	if create && errors.Is(err, fs.ErrNotExist) {
		return header(), nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(f)
	return data, info, err
}
