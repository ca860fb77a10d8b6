package service

import (
	"context"
	"net"
	"syscall"
	"time"
)

// keepAlive finds devices that are gone within about three minutes, at the cost of
// one probe a minute for each that says nothing.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 30 * time.Second, Count: 4}

// userTimeout is how long sent data may stay without acknowledgement, where the
// system has such a limit (TCP_USER_TIMEOUT, RFC 5482): keep-alive runs on
// connections only that have nothing to send. It is the time after which keep-alive
// gives up too; with any other value Linux would ignore the count of probes.
const userTimeout = 3 * time.Minute

// listenTCP opens a socket whose connections keep to these limits.
// Other processes may listen on the same address if it is shared.
func listenTCP(address string, shared bool) (net.Listener, error) {
	var lc net.ListenConfig
	keepAccepted(&lc)
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
