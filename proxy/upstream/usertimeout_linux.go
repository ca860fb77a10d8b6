package upstream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout limits how long the kernel keeps sending the same data to a
// broker that does not acknowledge it (TCP_USER_TIMEOUT, RFC 5482). Without it a
// dead peer with unsent data is given up after some 15 minutes: keep-alive only
// runs on idle connections.
func setUserTimeout(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	return raw.Control(func(fd uintptr) {
		// A sandbox without the option still has keep-alive and the relay's own
		// limit for writes.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}
