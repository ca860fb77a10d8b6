package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Create creates a file that does not exist yet, completely or not at all, and syncs it to the
// disk. If it exists by then, even if another process has just created it, it is not changed
// and the error is [fs.ErrExist].
//
// On file systems without links (FAT, some network shares) Create uses a rename instead, which
// is not atomic: a file that another process creates just before it is replaced.
func Create(path string, data []byte, mode fs.FileMode) error {
	return create(path, data, mode, os.Link)
}

func create(path string, data []byte, mode fs.FileMode, link func(from, to string) error) error {
	temp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	err = link(temp, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Lstat(path); statErr == nil {
			return fs.ErrExist
		}
		err = os.Rename(temp, path)
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Replace replaces the file at path, or creates it. Readers, also after a crash, see either the
// complete old file or the complete new one.
func Replace(path string, data []byte, mode fs.FileMode) error {
	temp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// writeTemp writes a file next to path, syncs it, and returns its name.
func writeTemp(path string, data []byte, mode fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// SyncDir makes the names in a directory survive a power failure, such as the new name of a
// file that was renamed.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
