// Package files reads files that a configuration names, and writes files whole.
//
// What is read are secrets, certificates, keys and token files. They are read again and
// again while the program runs, so a read must end, and must end soon:
//
//	content, _, err := files.Read("/run/secrets/token", 64<<10)
//
// Only regular files are read, and symbolic links are followed. A named pipe would
// wait for a writer, a device may never end, and merely opening one can have effects;
// each of them, a directory and a socket are refused with [ErrNotRegular] without
// waiting. A file that is larger than its limit is refused with [ErrTooLarge].
//
// [Parsed] makes a value from the contents of files, and a new one only when they have
// changed. [Watched] does so by itself and keeps the last good value.
//
// [Create] and [Replace] write a temporary file next to the path, sync it to the disk,
// and put it in place in one step, so that no reader ever sees half of it.
//
// Every error of [Open] and [Read] is an [*fs.PathError], so that a caller can name the
// file in words of its own.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

var (
	// ErrNotRegular means that the path leads to a pipe, a device, a directory or a
	// socket.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge means that the file has more bytes than the limit.
	ErrTooLarge = errors.New("too large")
)

// Open opens the regular file at path for reading. The FileInfo is that of the open
// file.
func Open(path string) (*os.File, fs.FileInfo, error) {
	// Look before opening: to open a device may have effects.
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
	// Look again, since another file may have taken the place of the first.
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
