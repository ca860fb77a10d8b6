package host

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenOverlapping opens a socket whose address overlaps those of the process's own sockets.
// These share their port only while it is opened (SO_REUSEPORT, socket(7)), because otherwise
// any other program of the same user could listen on it.
//
// With it a single reload can replace an address by a wider one, and a socket is listening at
// all times. Otherwise that would take two reloads, and every connection between them would be
// refused, for ten seconds and more if the program finds the changes itself.
func listenOverlapping(own []net.Listener, address string) (ln net.Listener, err error) {
	for _, o := range own {
		before, err := sharePort(o, 1)
		if err != nil {
			return nil, errors.Join(syscall.EADDRINUSE, err)
		}
		// The socket remains usable if the reload fails later.
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

// sharePort sets whether other sockets may listen on the address of ln (1) or not (0), and
// returns the previous value.
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
