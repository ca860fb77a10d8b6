package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// keepAlive detects devices that are gone within about three minutes. It costs one probe per
// minute for each connection that is otherwise idle.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 30 * time.Second, Count: 4}

// userTimeout is how long sent data may remain unacknowledged, on systems that have such a
// limit (TCP_USER_TIMEOUT, RFC 5482), because keep-alive covers only connections that have
// nothing to send. Keep-alive gives up after the same time: with any other value Linux would
// ignore the number of probes.
const userTimeout = 3 * time.Minute

// ListenOptions change how [Listen] opens a socket. With the zero value, no other socket may
// use the address.
type ListenOptions struct {
	// Shared lets other processes listen on the same address (SO_REUSEPORT), such as the next
	// process in a restart without a gap.
	Shared bool
	// Replaced are listeners of this process that may overlap the address and will be closed
	// soon, such as that of 127.0.0.1:1883 when :1883 is opened. On Linux they do not prevent
	// opening the new one.
	Replaced []net.Listener
}

// Listen opens a TCP socket. Its connections detect within about three minutes that their peer
// is gone. The error is that of package net; [syscall.EADDRINUSE] may mean that a listener in
// Replaced still uses the address.
func Listen(address string, o ListenOptions) (net.Listener, error) {
	ln, err := listen(address, o.Shared)
	if !errors.Is(err, syscall.EADDRINUSE) || len(o.Replaced) == 0 {
		return ln, err
	}
	if ln, err = listenOverlapping(o.Replaced, address); err != nil || !o.Shared {
		return ln, err
	}
	if err := onSocket(ln, allowSharing); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

func listen(address string, shared bool) (net.Listener, error) {
	var lc net.ListenConfig
	setKeepAlive(&lc)
	if keep := lc.Control; shared {
		lc.Control = func(network, address string, raw syscall.RawConn) error {
			if keep != nil {
				_ = keep(network, address, raw)
			}
			return allowSharing(raw)
		}
	}
	return lc.Listen(context.Background(), "tcp", address)
}

// keepingAlive is a listener that another process has opened.
type keepingAlive struct{ net.Listener }

func (k keepingAlive) Accept() (net.Conn, error) {
	conn, err := k.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		// The connection works without it as well.
		_ = tcp.SetKeepAliveConfig(keepAlive)
	}
	return conn, err
}

// onSocket calls a function with the socket of a listener.
func onSocket(ln net.Listener, do func(syscall.RawConn) error) error {
	conn, ok := ln.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no socket", ln)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return do(raw)
}
