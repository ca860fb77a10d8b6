//go:build !linux

package host

import (
	"net"
	"syscall"
)

// listenOverlapping opens a socket whose address overlaps those of the process's own sockets.
// Only Linux can do that without a moment in which no socket listens.
func listenOverlapping([]net.Listener, string) (net.Listener, error) { return nil, syscall.EADDRINUSE }
