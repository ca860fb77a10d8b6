package main

import (
	"context"
	"net"
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
func listenTCP(address string) (net.Listener, error) {
	var lc net.ListenConfig
	keepAccepted(&lc)
	return lc.Listen(context.Background(), "tcp", address)
}
