//go:build !unix

package broker

import (
	"errors"
	"fmt"
	"net"
)

// socketPair returns two connected loopback TCP sockets, where there are no socket pairs. Another program may connect to
// the port in the moment it listens; only the connection made here is kept.
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

// tryWriter never writes: without a portable attempt, everything goes through the drain.
type tryWriter struct{}

func newTryWriter(net.Conn) (*tryWriter, error) { return &tryWriter{}, nil }

func (*tryWriter) write([]byte) (int, error) { return 0, nil }
