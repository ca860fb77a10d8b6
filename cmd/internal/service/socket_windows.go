package service

import (
	"errors"
	"syscall"
)

// allowSharing lets another process listen on the same address. This system cannot.
func allowSharing(syscall.RawConn) error {
	return errors.New("reuse_port does not exist on this system")
}

// descriptorLimit returns how many files the process may have open, false if there is no
// limit, as on this system.
func descriptorLimit() (int, bool) { return 0, false }
