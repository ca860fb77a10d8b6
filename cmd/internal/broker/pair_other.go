//go:build !unix

package broker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// socketPair returns two connected loopback TCP sockets, where there are no socket pairs.
// Another program may connect to the port while it listens; only the connection made here is
// kept.
func socketPair() (near, far net.Conn, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("loopback pair: %w", err)
	}
	defer ln.Close()
	far, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, nil, fmt.Errorf("loopback pair: %w", err)
	}
	for {
		near, err = ln.Accept()
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("loopback pair: %w", err), far.Close())
		}
		if near.RemoteAddr().String() == far.LocalAddr().String() {
			return near, far, nil
		}
		_ = near.Close()
	}
}

// tryFor is how long an attempt to write may take: there is no portable way of not waiting at
// all.
const tryFor = 5 * time.Millisecond

// tryWriter writes what fits into a socket's buffer, nearly without waiting.
type tryWriter struct{ conn net.Conn }

func newTryWriter(c net.Conn) (*tryWriter, error) { return &tryWriter{c}, nil }

// write returns how much of b was written.
func (w *tryWriter) write(b []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(tryFor)); err != nil {
		return 0, err
	}
	n, err := w.conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, errors.Join(err, w.conn.SetWriteDeadline(time.Time{}))
}
