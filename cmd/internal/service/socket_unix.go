//go:build unix

package service

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// allowSharing lets another process listen on the same address.
func allowSharing(raw syscall.RawConn) error {
	var setErr error
	err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	if err != nil {
		return err
	}
	return setErr
}

// descriptorLimit returns how many files the process may have open. The runtime has
// raised it as far as it goes.
func descriptorLimit() (uint64, bool) {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return uint64(limit.Cur), err == nil
}
