//go:build !linux

package service

import (
	"errors"
	"net"
)

// divert sends connections that begin now to another process. This system cannot.
func divert(net.Listener) error {
	return errors.New("this system resets connections that have not been accepted when a listener closes")
}
