package tokenfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/filelock"
)

// lock keeps other writers of path out until unlock is called. It locks a file next to path,
// because path itself is replaced by every write.
func lock(path string) (unlock func(), err error) {
	f, err := openLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	// The lock file is not removed, because then two writers could each lock a different file.
	unlock = func() { _ = f.Close() }
	if err := filelock.Lock(context.Background(), f); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// openLock opens the lock file, or creates it. It changes the owner only of a file that it
// created: an existing file may be a link that an attacker made for root.
func openLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.OpenFile(name, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := takeDirOwner(f, filepath.Dir(name)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// replaceFile has write fill a new file and puts it in the place of path, so that a reader,
// or a crash, meets the old file or the new one, whole. The new file takes owner and mode
// from old, or is for its owner only if there is none.
func replaceFile(path string, old fs.FileInfo, write func(*os.File) error) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // has no effect after the rename
	if err := write(temp); err != nil {
		return errors.Join(err, temp.Close())
	}
	if err := errors.Join(takeRights(temp, old), temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return files.SyncDir(dir)
}

// takeRights gives temp the owner and the mode of old.
func takeRights(temp *os.File, old fs.FileInfo) error {
	if old == nil {
		return takeDirOwner(temp, filepath.Dir(temp.Name()))
	}
	if err := takeOwner(temp, old); err != nil {
		return err
	}
	return temp.Chmod(old.Mode().Perm())
}
