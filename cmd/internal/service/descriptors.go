package service

import (
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

const (
	// reservedDescriptors stay free for everything that is not a device's connection:
	// the token file, certificates, the config, databases, the admin side.
	reservedDescriptors = 64
	// sourceDescriptors stay free for the questions to one token source that is asked over
	// a network. A cache asks as many at a time by default.
	sourceDescriptors = 64
	// assumedDescriptors is a number for systems that have no limit.
	assumedDescriptors = 65_536
)

// deviceDescriptors returns how many file descriptors are for devices and their connections
// to the broker, in a process that may have limit of them and asks that many sources over a
// network.
func deviceDescriptors(limit, sources int) int {
	return max(limit-reservedDescriptors-sources*sourceDescriptors, limit/2)
}

// limitDescriptors returns how many descriptors devices may take, 0 for any number, and
// how many connections may be without a CONNECT.
func limitDescriptors(c config.Limits, sources int) (devices, pending int) {
	all, limited := host.DescriptorLimit()
	if !limited {
		all = assumedDescriptors
	}
	if pending = c.Pending; pending == 0 {
		pending = max(all/4, 1)
	}
	if limited {
		devices = deviceDescriptors(all, sources)
	}
	return devices, pending
}
