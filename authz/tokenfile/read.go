package tokenfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// errChanging means that the file was changed while it was read. It is temporary.
var errChanging = errors.New("the file changes while it is read")

// stamp distinguishes versions of the file without reading it. The zero stamp stands for a
// missing file.
type stamp struct{ info fs.FileInfo }

// stampOf returns the stamp of the file at path. It follows links.
func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info}
}

func (s stamp) equal(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return s.unwritten(o) && s.info.Mode() == o.info.Mode()
}

// sameFile reports whether both stamps belong to the same file, whatever its content.
func (s stamp) sameFile(o stamp) bool {
	return s.info != nil && o.info != nil && os.SameFile(s.info, o.info)
}

// unwritten reports whether both stamps belong to the same file and it was not changed in
// between.
func (s stamp) unwritten(o stamp) bool {
	return s.sameFile(o) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

// open opens the regular file at path.
func open(path string) (*os.File, error) {
	f, _, err := files.Open(path)
	if errors.Is(err, files.ErrNotRegular) {
		return nil, fmt.Errorf("%s is not a regular file; name the file with the tokens", path)
	}
	return f, err
}

// version describes one version of the file, valid or not.
type version struct {
	stamp       stamp
	fingerprint string // hexadecimal SHA-256 of the content, empty if it could not be read
	// file is open so that the system gives its number to no other file and
	// os.SameFile is reliable. It is nil if the file could not be read, and on
	// systems on which an open file cannot be replaced.
	file *os.File
}

func (v version) close() {
	if v.file != nil {
		v.file.Close()
	}
}

// read parses the file, of which old is the last good version. The version is of use even
// if there is an error, unless that is errChanging or ctx's own. The caller closes it.
func read(ctx context.Context, path string, old *snapshot) (*snapshot, version, error) {
	f, err := open(path)
	if err != nil {
		return nil, version{stamp: stampOf(path)}, err
	}
	snap, v, err := readOpen(ctx, f, path, old)
	if keepsOpen && v.stamp.info != nil {
		v.file = f
	} else {
		f.Close()
	}
	return snap, v, err
}

func readOpen(ctx context.Context, f *os.File, path string, old *snapshot) (*snapshot, version, error) {
	before, err := f.Stat()
	if err != nil {
		return nil, version{}, err
	}
	v := version{stamp: stamp{before}}
	snap, sum, err := parseFile(ctx, f, old)
	v.fingerprint = sum
	err = named(err, path)
	after, statErr := f.Stat()
	switch {
	case statErr != nil:
		return nil, version{}, statErr
	case !v.stamp.equal(stamp{after}):
		return nil, version{}, fmt.Errorf("%s: %w", path, errChanging)
	}
	return snap, v, err
}

// parseFile parses f from its beginning on, like parse, with exact faults. It returns the
// fingerprint as well, of a refused file too unless it cannot be read.
func parseFile(ctx context.Context, f io.ReadSeeker, old *snapshot) (snap *snapshot, sum string, err error) {
	digest := sha256.New()
	snap, err = parseWith(ctx, f, old, digest)
	// The digest also covers the rest of a refused file after its last reported fault.
	if _, rest := io.Copy(digest, f); rest == nil {
		sum = hex.EncodeToString(digest.Sum(nil))
	}
	return snap, sum, err
}

// noDigest is for edits, which need no fingerprint.
type noDigest struct{ hash.Hash }

func (noDigest) Write(b []byte) (int, error) { return len(b), nil }
func (noDigest) Reset()                      {}

// parseWith parses f from its beginning on and writes to digest what it has read.
func parseWith(ctx context.Context, f io.ReadSeeker, old *snapshot, digest hash.Hash) (*snapshot, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	digest.Reset()
	snap, err := safely(func() (*snapshot, error) { return parse(ctx, io.TeeReader(f, digest), old) })
	if broken, ok := errors.AsType[*FormatError](err); ok && broken.incomplete {
		return parseWith(ctx, f, &snapshot{}, digest) // for the exact faults
	}
	return snap, err
}

// safely turns a panic of the parser into an error, so that a file that causes one is
// refused like any other faulty file, and is read again only when it changes.
func safely[T any](parse func() (T, error)) (value T, err error) {
	defer func() {
		if v := recover(); v != nil {
			// The value may contain a part of the file.
			err = fmt.Errorf("internal error while the tokens were parsed (%T)", v)
		}
	}()
	return parse()
}

// fingerprint returns the fingerprint of the current content.
func fingerprint(path string) (string, error) {
	f, err := open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// warnings returns problems that are not errors.
func (s *snapshot) warnings(path string, v version) []string {
	var all []string
	if v.stamp.info != nil {
		if who := openTo(v.stamp.info.Mode()); who != "" {
			all = append(all, fmt.Sprintf("%s: %s (mode %04o); chmod 600 it", path, who, v.stamp.info.Mode().Perm()))
		}
	}
	return all
}
