package upstream

import (
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepAlive sets socket options so that the dialer's connections find a broker that is gone.
func keepAlive(d *net.Dialer) {
	d.KeepAlive = -1 // Keep the net package from overriding the options set below.
	d.Control = setDeadPeerLimits
}

// setDeadPeerLimits configures keep-alive, and limits how long the kernel keeps sending the
// same data to a broker that does not acknowledge it (TCP_USER_TIMEOUT, RFC 5482). Keep-alive
// runs only on idle connections, so without that limit a dead peer with unacknowledged data
// would be noticed only after some 15 minutes.
//
// A broker on this machine needs neither: the same kernel would send the probes and answer
// them.
func setDeadPeerLimits(network, address string, raw syscall.RawConn) error {
	if network == "unix" || isLoopback(address) {
		return nil
	}
	seconds := func(d time.Duration) int { return int(d.Seconds()) }
	return raw.Control(func(fd uintptr) {
		// A sandbox that lacks an option still has the relay's own limit for writes.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(keepAliveIdle))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(keepAliveInterval))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}

func isLoopback(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Addr().Unmap().IsLoopback()
}
