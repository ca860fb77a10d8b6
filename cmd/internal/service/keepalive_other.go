//go:build !linux

package service

import "net"

// keepAccepted lets the net package set what finds dead peers on each connection.
func keepAccepted(lc *net.ListenConfig) { lc.KeepAliveConfig = keepAlive }
