package main

import (
	"context"
	"errors"
	"fmt"
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
		if err := sharePort(o, 1); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, sharePort(o, 0)) }()
	}
	var lc net.ListenConfig
	keepAccepted(&lc)
	keep := lc.Control
	lc.Control = func(network, address string, raw syscall.RawConn) error {
		return errors.Join(keep(network, address, raw), setReusePort(raw, 1))
	}
	if ln, err = lc.Listen(context.Background(), "tcp", address); err != nil {
		return nil, err
	}
	if err := sharePort(ln, 0); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

func sharePort(ln net.Listener, value int) error {
	conn, ok := ln.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%s: %w", ln.Addr(), syscall.EADDRINUSE)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return setReusePort(raw, value)
}

func setReusePort(raw syscall.RawConn, value int) (err error) {
	if controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, value)
	}); controlErr != nil {
		return controlErr
	}
	return err
}
