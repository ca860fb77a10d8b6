package host

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenBeside opens a socket whose address overlaps those of the process's own sockets,
// which share their port with it for as long as that takes (SO_REUSEPORT, socket(7)). They
// do not share it for good, because any other program of the same user could then join.
//
// With it an address widens in one reload, in which a socket listens at any time. Otherwise
// it takes two reloads, and between them, for ten seconds and more if the program finds the
// changes by itself, every connection is refused.
func listenBeside(own []net.Listener, address string) (ln net.Listener, err error) {
	for _, o := range own {
		before, err := sharePort(o, 1)
		if err != nil {
			return nil, errors.Join(syscall.EADDRINUSE, err)
		}
		// The socket stays in use if the reload fails later on.
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
// returns what was set before.
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
