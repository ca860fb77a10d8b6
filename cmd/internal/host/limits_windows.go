package host

import (
	"errors"
	"syscall"
)

// allowSharing would let other processes listen on the same address.
func allowSharing(syscall.RawConn) error {
	return errors.New("reuse_port does not exist on this system")
}

// DescriptorLimit returns how many file descriptors the process may have open, or false if
// there is no limit, as on this system.
func DescriptorLimit() (int, bool) { return 0, false }
