package service

import (
	"errors"
	"syscall"
)

// allowSharing lets another process listen on the same address. This system cannot.
func allowSharing(syscall.RawConn) error {
	return errors.New("reuse_port does not exist on this system")
}

// descriptorLimit returns how many files the process may have open, false if nobody
// says.
func descriptorLimit() (uint64, bool) { return 0, false }
