// Package files reads files that a configuration names, and writes files whole.
//
// The files are secrets, certificates, keys and token files. They are read repeatedly while the
// program runs, so a read must not block:
//
//	content, _, err := files.Read("/run/secrets/token", 64<<10)
//
// Only regular files are read; symbolic links are followed. Reading a named pipe would wait for
// a writer, a device may have no end, and opening one can have side effects. They, directories
// and sockets are refused at once with [ErrNotRegular]. A file that is larger than its limit is
// refused with [ErrTooLarge].
//
// [Parsed] parses the contents of files, and parses them again only if they have changed. [Watched]
// does so at intervals and keeps the last valid value. [Follower] is for large files that people
// and programs edit, in place or by a rename: it waits until a file is no longer being written, and
// says how each version came to be.
//
// [Create] and [Replace] write a temporary file next to the path, sync it to the disk, and move
// it into place in one step, so that a reader never sees a part of it.
//
// Every error of [Open] and [Read] is an [*fs.PathError], so that a caller can replace the path
// in its message.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

var (
	// ErrNotRegular means that the path is a pipe, a device, a directory or a socket.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge means that the file has more bytes than the limit.
	ErrTooLarge = errors.New("too large")
)

// Open opens the regular file at path for reading. The FileInfo describes the open file.
func Open(path string) (*os.File, fs.FileInfo, error) {
	// Check before opening, because opening a device may have side effects.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := openNow(path)
	if err != nil {
		return nil, nil, err
	}
	// Check again, because the file may have been replaced in between.
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Read returns the content of the regular file at path, which has at most limit bytes.
func Read(path string, limit int64) ([]byte, fs.FileInfo, error) {
	f, info, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)}
	}
	if err != nil {
		return nil, nil, err
	}
	return content, info, nil
}
