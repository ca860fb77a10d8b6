package service

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

// binder opens listening sockets for a configuration that will replace that of old.
type binder struct {
	config    *config.Config
	old       *generation
	inherited host.Sockets
}

// listen opens a TCP socket, or takes over one that systemd has opened. If all sockets of old
// that overlap the address will be closed, such as that of 127.0.0.1:1883 when :1883 is opened,
// they do not prevent it on systems that allow that.
func (b binder) listen(address string, shared bool) (net.Listener, error) {
	if name, ok := config.Inherited(address); ok {
		return b.inherited.Listen(name)
	}
	own, o := b.old.socketsAt(address), host.ListenOptions{Shared: shared}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(own)), func(at string) bool { return wants(b.config, at) }) {
		o.Replaced = slices.Collect(maps.Values(own))
	}
	ln, err := host.Listen(address, o)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && len(own) > 0:
		return nil, fmt.Errorf("%s overlaps %s, where the proxy itself listens now: remove that address first and reload, or restart", address, slices.Sorted(maps.Keys(own))[0])
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, inUse(address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("no permission to listen on %s: ports below 1024 need a privilege", address)
	}
	return ln, err
}

// inUse is the error about an address at which another program listens, and names the likely one.
func inUse(address string) error {
	likely := "a broker, another proxy"
	if strings.HasSuffix(address, ":9883") {
		likely = "another proxy, or Mosquitto from 2.1 on, whose image has its dashboard there"
	}
	return fmt.Errorf("%s is in use: stop the program that listens there (%s) or choose another address", address, likely)
}

// socketsAt returns the sockets of g that have the port of an address, by their addresses in
// the configuration.
func (g *generation) socketsAt(address string) map[string]net.Listener {
	_, port, _ := net.SplitHostPort(address)
	found := make(map[string]net.Listener)
	add := func(at string, ln net.Listener) {
		if _, p, _ := net.SplitHostPort(ln.Addr().String()); p == port {
			found[at] = ln
		}
	}
	for _, l := range g.listeners {
		add(l.config.Address, l.served().Listener)
	}
	if g.admin.socket != nil {
		add(g.config.Admin.Address, g.admin.socket.Listener.(*securedListener).Listener)
	}
	return found
}

// wants reports whether a configuration has a listener at an address.
func wants(c *config.Config, address string) bool {
	return c.Admin.Address == address || slices.ContainsFunc(c.Listeners, func(l config.Listener) bool { return l.Address == address })
}
