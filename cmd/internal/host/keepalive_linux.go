package host

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setKeepAlive sets the options for detecting dead peers once, on the listening socket, from
// which every connection inherits them on Linux. Package net would set them again for each
// connection, with four system calls, and does not know TCP_USER_TIMEOUT.
func setKeepAlive(lc *net.ListenConfig) {
	lc.KeepAlive = -1 // each connection inherits it
	lc.Control = func(_, _ string, raw syscall.RawConn) error { return setDeadPeerLimits(raw) }
	// Go opens a listener for multipath TCP if the kernel supports it, and that has no
	// TCP_USER_TIMEOUT.
	lc.SetMultipathTCP(false)
}

// setDeadPeerLimits sets keepAlive and userTimeout. A container runtime that lacks an
// option (gVisor, for example) still leaves the relay's own time limit for writes.
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
