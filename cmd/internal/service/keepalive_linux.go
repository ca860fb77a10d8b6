package service

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepAccepted sets what finds dead peers once on the listening socket, from which
// Linux hands it down to every connection. The net package would set it again for
// each, with four system calls, and has no way to say TCP_USER_TIMEOUT.
func keepAccepted(lc *net.ListenConfig) {
	lc.KeepAlive = -1 // each connection has it already
	lc.Control = func(_, _ string, raw syscall.RawConn) error { return setDeadPeerLimits(raw) }
	// A listener for multipath TCP, which Go opens where the kernel knows it, has no
	// TCP_USER_TIMEOUT.
	lc.SetMultipathTCP(false)
}

// setDeadPeerLimits sets keepAlive and userTimeout. A sandbox that lacks an option
// still has the relay's own limit for writes.
func setDeadPeerLimits(raw syscall.RawConn) error {
	seconds := func(d time.Duration) int { return int(d.Seconds()) }
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(keepAlive.Idle))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(keepAlive.Interval))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAlive.Count)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}
