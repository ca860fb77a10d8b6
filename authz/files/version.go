package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
)

// ErrChanging means that a file was written to while it was read. It is temporary.
var ErrChanging = errors.New("the file changes while it is read")

// Stamp distinguishes versions of a file without reading it. The zero Stamp stands for a missing
// file.
type Stamp struct{ info fs.FileInfo }

// StampOf returns the stamp of the file at path. It follows links.
func StampOf(path string) Stamp {
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{}
	}
	return Stamp{info}
}

// Equal reports whether nothing has changed between the two.
func (s Stamp) Equal(o Stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return s.unwritten(o) && s.info.Mode() == o.info.Mode()
}

// Describes reports whether an open file with that FileInfo is the version with the stamp.
func (s Stamp) Describes(info fs.FileInfo) bool { return s.Equal(Stamp{info}) }

// sameFile reports whether both stamps belong to the same file, whatever its content.
func (s Stamp) sameFile(o Stamp) bool {
	return s.info != nil && o.info != nil && os.SameFile(s.info, o.info)
}

// unwritten reports whether both stamps belong to the same file and it was not changed in
// between.
func (s Stamp) unwritten(o Stamp) bool {
	return s.sameFile(o) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

// Unchanged returns [ErrChanging] if the open file f was written to since it had that FileInfo.
func Unchanged(f *os.File, since fs.FileInfo) error {
	now, err := f.Stat()
	if err == nil && !(Stamp{since}).Equal(Stamp{now}) {
		err = ErrChanging
	}
	return err
}

// version describes one version of a file, valid or not.
type version struct {
	stamp Stamp
	sum   string // hexadecimal SHA-256 of the content, empty if it could not be read
	// file is kept open so that the system does not reuse its number for another file, and
	// os.SameFile is reliable. It is nil if the file could not be read, and on systems on which an
	// open file cannot be replaced.
	file *os.File
}

func (v version) close() {
	if v.file != nil {
		_ = v.file.Close()
	}
}

// readVersion parses the file at path. The version can be used even if there is an error, unless
// that is ErrChanging or the error of ctx. The caller closes it.
func readVersion[T any](ctx context.Context, path string, parse ParseFunc[T]) (value T, v version, err error) {
	f, before, err := Open(path)
	if err != nil {
		return value, version{stamp: StampOf(path)}, err
	}
	digest := sha256.New()
	value, err = parse(ctx, f, digest)
	// The digest must also cover what the parser has not read of a file that it refuses.
	if _, rest := io.Copy(digest, f); rest == nil {
		v.sum = hex.EncodeToString(digest.Sum(nil))
	}
	if changed := Unchanged(f, before); changed != nil {
		_ = f.Close()
		return value, version{}, fmt.Errorf("%s: %w", path, changed)
	}
	v.stamp = Stamp{before}
	if runtime.GOOS == "windows" {
		_ = f.Close()
	} else {
		v.file = f
	}
	return value, v, err
}

// fingerprint returns the SHA-256 of the present content in hexadecimal digits.
func fingerprint(path string) (string, error) {
	f, _, err := Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	digest := sha256.New()
	if _, err := io.Copy(digest, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}
