//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package filelock

import (
	"os"
	"syscall"
)

// tryLock locks f unless another process, or another open file of this process, has locked it.
func tryLock(f *os.File) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
		case syscall.EINTR: // interrupted by a signal, such as one of the runtime's own
		case syscall.EWOULDBLOCK:
			return errLocked
		default:
			return err
		}
	}
}
