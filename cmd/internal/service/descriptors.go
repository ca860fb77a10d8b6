package service

import (
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

const (
	// reservedDescriptors are kept free for everything other than connections: the token file,
	// certificates, the config, databases.
	reservedDescriptors = 64
	// sourceDescriptors are kept free for requests to one token source that is asked over a
	// network. By default a cache sends that many at a time.
	sourceDescriptors = 64
	// assumedDescriptors is used on systems that have no limit.
	assumedDescriptors = 65_536
)

// deviceDescriptors returns how many file descriptors are for devices and their connections to
// the broker. limit is the limit of the process, and remote the number of sources that are
// asked over a network.
func deviceDescriptors(limit, sources int) int {
	return max(limit-reservedDescriptors-adminConnections(limit)-sources*sourceDescriptors, limit/2)
}

// adminConnections returns how many connections the admin side may have with that limit of the
// process.
func adminConnections(limit int) int { return min(max(limit/8, 8), admin.MaxConnections) }

// limitAdmin returns how many connections the admin side may have.
func limitAdmin() int {
	all, limited := host.DescriptorLimit()
	if !limited {
		all = assumedDescriptors
	}
	return adminConnections(all)
}

// limitDescriptors returns how many descriptors devices may use, or 0 for no limit, and how
// many connections may be without a CONNECT.
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
