//go:build unix

package host

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// allowSharing lets other processes listen on the same address.
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

// DescriptorLimit returns how many file descriptors the process may have open, or false if
// there is no limit. The Go runtime has raised the limit as far as the system allows.
func DescriptorLimit() (int, bool) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return 0, false
	}
	return int(limit.Cur), true
}
