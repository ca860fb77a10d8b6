//go:build unix && !aix && !solaris

package sqlitefile

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the lock on f, or returns errInUse. Closing f releases it.
func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errInUse
		case !errors.Is(err, syscall.EINTR):
			return os.NewSyscallError("flock", err)
		}
	}
}
