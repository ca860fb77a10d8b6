//go:build !linux

package host

import "net"

// setKeepAlive lets package net set the options for detecting dead peers on each connection.
func setKeepAlive(lc *net.ListenConfig) { lc.KeepAliveConfig = keepAlive }
