//go:build !linux

package upstream

import "net"

// keepAlive makes the dialer's connections find a broker that is gone.
func keepAlive(d *net.Dialer) {
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount}
}
