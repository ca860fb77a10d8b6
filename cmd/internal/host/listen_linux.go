package host

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenBeside opens a socket whose address overlaps those of sockets of our own. For
// as long as that takes, and no longer, all of them share their port (SO_REUSEPORT,
// socket(7)): a socket that shares it for good could be joined by any other program
// of the same user.
func listenBeside(own []net.Listener, address string) (ln net.Listener, err error) {
	for _, o := range own {
		before, err := sharePort(o, 1)
		if err != nil {
			return nil, errors.Join(syscall.EADDRINUSE, err)
		}
		// It is about to go, or stays after all if the reload fails later on.
		defer func() { _, _ = sharePort(o, before) }()
	}
	var lc net.ListenConfig
	setKeepAlive(&lc)
	keep := lc.Control
	lc.Control = func(network, address string, raw syscall.RawConn) error {
		return errors.Join(keep(network, address, raw), allowSharing(raw))
	}
	if ln, err = lc.Listen(context.Background(), "tcp", address); err != nil {
		return nil, err
	}
	if _, err := sharePort(ln, 0); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// sharePort sets whether others may listen on the address of ln, and returns what was
// set before.
func sharePort(ln net.Listener, value int) (before int, err error) {
	err = onSocket(ln, func(raw syscall.RawConn) error {
		var sockErr error
		err := raw.Control(func(fd uintptr) {
			if before, sockErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT); sockErr == nil {
				sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, value)
			}
		})
		return errors.Join(err, sockErr)
	})
	return before, err
}
