//go:build unix

package relay

import (
	"io"
	"syscall"
)

// descriptor is a file descriptor of the operating system.
type descriptor int32

const (
	noDescriptor descriptor = -1
	pollable                = true
)

// readNow reads what is there, and returns EAGAIN if there is nothing. The error must stay a
// bare syscall.Errno: crypto/tls can be used again after a temporary net.Error, but after no
// other error.
func readNow(fd descriptor, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, err := sysRead(fd, b)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// writeNow writes what the socket takes, and returns EAGAIN if it takes nothing. More is set
// if another write follows at once, so that the kernel may wait for it.
func writeNow(fd descriptor, b []byte, more bool) (int, error) {
	for {
		n, err := sysWrite(fd, b, more)
		if err == syscall.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

// again reports whether err is EAGAIN.
func again(err error) bool { return err == syscall.EAGAIN }

func shutdownWrite(fd descriptor) error { return syscall.Shutdown(int(fd), syscall.SHUT_WR) }

func closeDescriptor(fd descriptor) { _ = syscall.Close(int(fd)) }
