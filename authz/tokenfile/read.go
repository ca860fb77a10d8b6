package tokenfile

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// open opens the regular file at path.
func open(path string) (*os.File, error) {
	f, _, err := files.Open(path)
	return f, explained(path, err)
}

// explained says what to do about a path that is not that of a file.
func explained(path string, err error) error {
	if errors.Is(err, files.ErrNotRegular) {
		return fmt.Errorf("%s is not a regular file; name the file with the tokens", path)
	}
	return err
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

// warnings returns problems that are not errors, of a file with that mode.
func warnings(path string, mode fs.FileMode) []string {
	if who := openTo(mode); who != "" {
		return []string{fmt.Sprintf("%s: %s (mode %04o); chmod 600 it", path, who, mode.Perm())}
	}
	return nil
}
