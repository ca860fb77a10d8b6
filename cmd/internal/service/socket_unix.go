//go:build unix

package service

import (
	"math"
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

// descriptorLimit returns how many files the process may have open, false if there is no
// limit. The runtime has raised it as far as it goes.
func descriptorLimit() (int, bool) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return 0, false
	}
	return int(limit.Cur), true
}
