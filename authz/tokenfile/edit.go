package tokenfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// CreateOptions describes a token to create.
type CreateOptions struct {
	// Name is the device: the grant's subject, 1 to 256 bytes without control characters, and
	// neither "." nor "..". It may already have tokens; they stay valid.
	Name string
	// Token is used instead of a new one, for devices that already have a token. It must have
	// at least 8 bytes, and should have at least 16.
	Token authz.Token
	// Username and Password are what the device shows instead of a token. The user name is one
	// that the file does not have; the password has at least 8 bytes.
	Username string
	Password authz.Token
	// Expires is when the token expires, in whole seconds; zero means never.
	Expires time.Time
	// ClientIDs binds the token to client identifiers; an entry that ends in * matches every
	// identifier with that prefix. Empty means any.
	ClientIDs []string
	// Limits are those of the token's grant.
	Limits authz.Limits
	// Comment is stored in the file and has no effect: at most 1024 bytes without control
	// characters.
	Comment string
}

// Created is a token that was created.
type Created struct {
	// ID is the name of the token, and Name that of the device.
	ID, Name string
	// Token is the secret for the device. The file has only its hash, so the token cannot be
	// shown again.
	Token authz.Token
	// Username is that of a device that has a password instead of a token.
	Username string
	// Expires is when the token expires; zero means never.
	Expires time.Time
	// Warning describes the weakness of a token that was given. It is empty if there is none.
	Warning string
}

func (o CreateOptions) check(now time.Time) error {
	if err := checkName(o.Name, maxSubject); err != nil {
		return fmt.Errorf("the name: %w", err)
	}
	if o.Name == "." || o.Name == ".." {
		return errors.New("the name: . and .. cannot be in the path of a URL, so that the device could not be queried; choose another")
	}
	if err := o.checkUser(); err != nil {
		return err
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

// Create adds a token, or a user name and a password, for a device to the file at path. It creates the file if it does not
// exist.
func Create(path string, o CreateOptions) (made Created, err error) {
	err = edit(path, true, func(d *document) (err error) {
		made, err = d.create(o, time.Now())
		return err
	})
	return made, err
}

// Rotate creates a new token for a device that has one. The new token has the conditions and
// the lifetime of the device's last token that is not disabled. Without an overlap the old
// tokens are removed in the same write. With an overlap they stay valid for that long, rounded
// down to seconds, unless they expire before. Old tokens that have expired, or that would not
// become valid in that time, are removed in any case.
func Rotate(path, name string, overlap time.Duration) (made Created, err error) {
	err = edit(path, false, func(d *document) (err error) {
		made, err = d.rotate(name, overlap, time.Now())
		return err
	})
	return made, err
}

// Revoke removes tokens from the file: the one with that id and all of the device with that
// name. It returns their ids.
func Revoke(path, idOrName string) (ids []string, err error) {
	err = edit(path, false, func(d *document) (err error) {
		ids, err = d.revoke(idOrName)
		return err
	})
	return ids, err
}

// Disable disables tokens, which are named as for [Revoke]. They stay in the file.
func Disable(path, idOrName string) (ids []string, err error) {
	err = edit(path, false, func(d *document) (err error) {
		ids, err = d.setDisabled(idOrName, true)
		return err
	})
	return ids, err
}

// Enable enables tokens again, which are named as for [Revoke].
func Enable(path, idOrName string) (ids []string, err error) {
	err = edit(path, false, func(d *document) (err error) {
		ids, err = d.setDisabled(idOrName, false)
		return err
	})
	return ids, err
}

// Extend changes the expiry of tokens, which are named as for [Revoke], in whole seconds; zero
// means that they never expire. An earlier expiry ends their sessions at that time. It returns
// the ids.
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

// edit calls change with the content of the file at path, which may be a link, and writes the
// result if there is a change. It writes nothing that it could not read again.
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
	content, old, err := contents(target, create)
	if err != nil {
		return err
	}
	defer content.Close()
	d, err := newDocument(content)
	if err != nil {
		return named(err, path)
	}
	if err := change(d); err != nil || !d.changed {
		return err
	}
	return replaceFile(target, old, func(f *os.File) error {
		if err := errors.Join(d.writeTo(f), unchanged(content, old)); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if _, err := parseWith(context.Background(), f, d.snap, noDigest{}); err != nil {
			return fmt.Errorf("the change would break the file: %w", named(err, path))
		}
		return nil
	})
}

// unchanged returns an error if the file was written to since it had the FileInfo old: what
// was to be one line may be another by now. Only a writer that takes no lock does that.
func unchanged(content file, old fs.FileInfo) error {
	f, ok := content.(*os.File)
	if !ok {
		return nil
	}
	now, err := f.Stat()
	if err == nil && !(stamp{old}).equal(stamp{now}) {
		err = errChanging
	}
	return err
}

// resolve follows links, so that the file is replaced and not the link to it. It creates the
// directory of a file that is to be created.
func resolve(path string, create bool) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if err == nil || !create || !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	// The file may have been created in the meantime; a broken link remains.
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fmt.Errorf("%s is a link to a file that does not exist; remove the link or create the file", path)
	}
	return path, os.MkdirAll(filepath.Dir(path), 0o700)
}

// contents opens the file. A file that is missing has the content with which it is to be
// created, and no FileInfo.
func contents(path string, create bool) (closingFile, fs.FileInfo, error) {
	f, err := open(path)
	if create && errors.Is(err, fs.ErrNotExist) {
		return inMemory{bytes.NewReader(header())}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// closingFile is a file that is closed after the edit.
type closingFile interface {
	file
	io.Closer
}

// inMemory is the content of a file that does not exist yet.
type inMemory struct{ *bytes.Reader }

// Close does nothing.
func (inMemory) Close() error { return nil }
