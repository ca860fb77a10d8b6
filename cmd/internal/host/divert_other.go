//go:build !linux

package host

import (
	"errors"
	"net"
)

// Divert would make the kernel leave new connections to other processes.
func Divert(net.Listener) error {
	return errors.New("this system resets connections that have not been accepted when a listener closes")
}
