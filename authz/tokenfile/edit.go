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
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// CreateOptions describes a token to create.
type CreateOptions struct {
	// Name is the device: the grant's subject, 1 to 256 bytes without control characters, and
	// neither "." nor "..". It may already have tokens; they stay valid.
	Name string
	// New makes it an error, [ErrExists], if the file has the device or a token with that id.
	New bool
	// Token is used instead of a new one, for devices that already have a token. It must have
	// at least 8 bytes, and should have at least 16.
	Token authz.Token
	// Username and Password are what the device shows instead of a token. The user name is one
	// that the file does not have; the password has at least 8 bytes.
	Username string
	Password authz.Token
	// Expires is when the token expires, in whole seconds; zero means never.
	Expires time.Time
	// NotBefore is when the token becomes valid, in whole seconds; zero means at once.
	NotBefore time.Time
	// Disabled creates the token without letting its device in.
	Disabled bool
	// ClientIDs binds the token to client identifiers; an entry that ends in * matches every
	// identifier with that prefix. Empty means any.
	ClientIDs []string
	// Limits are those of the token's grant.
	Limits authz.Limits
	// Usernames binds the token to user names, in the same form. A device with a password has
	// Username instead.
	Usernames []string
	// Addrs binds the token to addresses and networks, such as 10.1.2.3 and 10.0.0.0/8.
	Addrs []string
	// Certificates binds the token to client certificates, in the forms of
	// [authz.CheckCertificateName].
	Certificates []string
	// Upstream are the credentials for the broker, in the place of configured ones.
	Upstream authz.Upstream
	// Role is what the token's sessions are for.
	Role authz.Role
	// Gateway lets the device speak for the devices behind it, see [authz.Grant].
	Gateway bool
	// ACL are the topic rules in the JSON that [authz.ParseACL] reads; empty means none.
	ACL []byte
	// Attrs are the attributes of the token's grant.
	Attrs map[string]string
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
	// Role is that of the token.
	Role authz.Role
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
	if o.Username != "" && len(o.Usernames) > 0 {
		return errors.New("a device that has a user name and a password is bound to that user name")
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

// Create adds a token, or a user name and a password, for a device to the file at path. It
// creates the file if it does not exist.
func Create(path string, o CreateOptions) (made Created, err error) {
	err = Update(path, true, func(e *Edit) (err error) {
		made, err = e.Create(o)
		return err
	})
	return made, err
}

// Rotate is [Edit.Rotate] of one device.
func Rotate(path, name string, overlap time.Duration) (made Created, err error) {
	err = Update(path, false, func(e *Edit) (err error) {
		made, err = e.Rotate(name, overlap)
		return err
	})
	return made, err
}

// Revoke is [Edit.Revoke] of one name.
func Revoke(path, idOrName string) ([]string, error) {
	return changed(path, func(e *Edit) ([]string, error) { return e.Revoke(idOrName) })
}

// Disable is [Edit.Disable] of one name.
func Disable(path, idOrName string) ([]string, error) {
	return changed(path, func(e *Edit) ([]string, error) { return e.Disable(idOrName) })
}

// Enable is [Edit.Enable] of one name.
func Enable(path, idOrName string) ([]string, error) {
	return changed(path, func(e *Edit) ([]string, error) { return e.Enable(idOrName) })
}

// Extend is [Edit.Extend] of one name.
func Extend(path, idOrName string, expires time.Time) ([]string, error) {
	return changed(path, func(e *Edit) ([]string, error) { return e.Extend(expires, idOrName) })
}

// changed makes one change of entries and returns their ids.
func changed(path string, do func(*Edit) ([]string, error)) (ids []string, err error) {
	err = Update(path, false, func(e *Edit) (err error) {
		ids, err = do(e)
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
		broken, err := d.writeChecked(f)
		if err := errors.Join(err, unchanged(content, old)); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if broken != nil {
			return fmt.Errorf("the change would break the file: %w", named(broken, path))
		}
		return nil
	})
}

// writeChecked writes the document to f and parses what it writes at the same time. If broken is
// not nil, it says why the result must not be used.
func (d *document) writeChecked(f *os.File) (broken, err error) {
	r, w := io.Pipe()
	var writing sync.WaitGroup
	writing.Go(func() {
		_, err = safely(func() (bool, error) { return true, d.writeTo(io.MultiWriter(f, w)) })
		_ = w.CloseWithError(err) // never fails
	})
	_, broken = safely(func() (*snapshot, error) { return parse(context.Background(), r, d.snap) })
	_, _ = io.Copy(io.Discard, r) // so that the writer does not wait for a parser that has stopped
	writing.Wait()
	if broken != nil && err == nil {
		_, broken = parseWith(context.Background(), f, &snapshot{}, noDigest{}) // for the exact faults
	}
	return broken, err
}

// unchanged returns an error if the file was written to since it had the FileInfo old: what
// was to be one line may be another by now. Only a writer that takes no lock does that.
func unchanged(content file, old fs.FileInfo) error {
	f, ok := content.(*os.File)
	if !ok {
		return nil
	}
	return files.Unchanged(f, old)
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
