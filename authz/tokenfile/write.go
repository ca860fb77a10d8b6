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

// replaceFile writes data to path so that a reader, also after a crash, sees either the
// complete old file or the complete new one. The new file gets owner and mode from old. If old
// is nil, only its owner may read it.
func replaceFile(path string, data []byte, old fs.FileInfo) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // has no effect after the rename
	err = fill(temp, data, old)
	if err := errors.Join(err, temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return files.SyncDir(dir)
}

func fill(temp *os.File, data []byte, old fs.FileInfo) error {
	if _, err := temp.Write(data); err != nil {
		return err
	}
	if old == nil {
		return errors.Join(takeDirOwner(temp, filepath.Dir(temp.Name())), temp.Sync())
	}
	if err := takeOwner(temp, old); err != nil {
		return err
	}
	if err := temp.Chmod(old.Mode().Perm()); err != nil {
		return err
	}
	return temp.Sync()
}
