//go:build unix

package broker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketPair returns two connected stream sockets. Unlike net.Pipe they buffer, and unlike TCP
// sockets they cannot be reached from outside.
func socketPair() (near, far net.Conn, err error) {
	// Not every unix takes SOCK_CLOEXEC here; the lock keeps a fork from inheriting the descriptors.
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	near, nearErr := fileConn(fds[0])
	far, farErr := fileConn(fds[1])
	if err := errors.Join(nearErr, farErr); err != nil {
		for _, c := range []net.Conn{near, far} {
			if c != nil {
				_ = c.Close()
			}
		}
		return nil, nil, err
	}
	return near, far, nil
}

// fileConn takes the descriptor over. net.FileConn makes its copy non-blocking and
// close-on-exec.
func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socketpair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("socket pair: %w", err)
	}
	return c, nil
}

// tryWriter writes what fits into a socket's buffer without waiting.
type tryWriter struct {
	raw  syscall.RawConn
	data []byte
	n    int
	err  error
}

func newTryWriter(c net.Conn) (*tryWriter, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%T has no descriptor", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &tryWriter{raw: raw}, nil
}

// write returns how much of b was written. Only one call at a time is allowed.
func (w *tryWriter) write(b []byte) (int, error) {
	w.data, w.n, w.err = b, 0, nil
	err := w.raw.Write(w.once)
	w.data = nil
	if err == nil {
		err = w.err
	}
	return w.n, err
}

// once always reports that it is done, so that RawConn does not wait.
func (w *tryWriter) once(fd uintptr) bool {
	for {
		n, err := unix.Write(int(fd), w.data)
		switch err {
		case nil:
			w.n = n
		case unix.EINTR:
			continue
		case unix.EAGAIN:
		default:
			w.err = os.NewSyscallError("write", err)
		}
		return true
	}
}
