package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"syscall"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// listener is one address that devices connect to, in one generation. Listeners of
// the same address share the socket.
type listener struct {
	*socket
	config   config.Listener
	nth      int // among those of the same address, which port 0 allows
	settings *proxy.Listener
	identity *certificates // nil without TLS
}

// served returns what the socket is served as.
func (l *listener) served() *proxy.Listener { return l.socket.Listener.(*proxy.Listener) }

// openListeners opens the sockets that devices connect to and loads their
// certificates.
func (d *draft) openListeners(context.Context) error {
	for i, c := range d.config.Listeners {
		l, err := d.openListener(listenerKey(i), c)
		if err != nil {
			return err
		}
		d.listeners = append(d.listeners, l)
	}
	return nil
}

func listenerKey(i int) string { return fmt.Sprintf("listeners[%d]", i) }

func (d *draft) openListener(key string, c config.Listener) (*listener, error) {
	l := &listener{config: c, settings: &proxy.Listener{Name: c.Name}}
	for l.nth = 0; d.listenerAt(c.Address, l.nth) != nil; l.nth++ {
	}
	kept := d.old.listenerAt(c.Address, l.nth)
	if kept != nil && reflect.DeepEqual(kept.config, c) {
		return kept, nil
	}
	if err := d.secure(key, l, kept); err != nil {
		return nil, err
	}
	if c.ProxyProtocol != nil {
		l.settings.ProxyProtocol = networks(c.ProxyProtocol.Trusted)
	}
	if w := c.WebSocket; w != nil {
		l.settings.WebSocket = &websocket.Endpoint{Paths: w.Path, Origins: w.Origins, Trusted: networks(w.Trusted)}
	}
	if kept != nil {
		l.socket = kept.socket
		return l, nil
	}
	inner, err := d.listen(c.Address, c.ReusePort)
	if err != nil {
		return nil, d.fault(key+".address", err)
	}
	l.settings.Listener = inner
	l.socket = &socket{Listener: l.settings, label: c.Name}
	return l, nil
}

// networks returns what the config has checked to be networks.
func networks(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// secure makes l a TLS listener if it is to be one. The certificates of the listener
// before are kept, with what they were loaded from, where the config says the same.
func (d *draft) secure(key string, l, kept *listener) (err error) {
	switch {
	case l.config.TLS == nil:
		return nil
	case kept != nil && reflect.DeepEqual(kept.config.TLS, l.config.TLS) && (kept.config.WebSocket == nil) == (l.config.WebSocket == nil):
		l.identity = kept.identity
	default:
		if l.identity, err = d.openCertificates(l.config.TLS, protocols(l.config)); err != nil {
			return d.fault(key+".tls", err)
		}
	}
	l.settings.TLS = l.identity.tls
	return nil
}

// protocols returns what a listener carries, in the names of ALPN.
func protocols(c config.Listener) []string {
	if c.WebSocket != nil {
		return []string{"http/1.1"}
	}
	return []string{"mqtt"}
}

// listenerAt returns the nth listener of an address, nil if there is none.
func (g *generation) listenerAt(address string, nth int) *listener {
	for _, l := range g.listeners {
		if l.config.Address == address && l.nth == nth {
			return l
		}
	}
	return nil
}

// adopt makes the socket what the listener says it is.
func (l *listener) adopt() {
	if l.settings != l.served() {
		l.served().Update(l.settings)
	}
}

// listen opens a TCP socket, or takes one over that systemd has opened. If every socket
// in force that the address may overlap is about to go, such as that of 127.0.0.1:1883
// when :1883 is opened, they do not stand in the way where the system can do that.
func (d *draft) listen(address string, shared bool) (net.Listener, error) {
	if name, ok := config.Inherited(address); ok {
		return d.service.Sockets.Listen(name)
	}
	own, o := d.old.socketsAt(address), host.ListenOptions{Shared: shared}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(own)), func(at string) bool { return wants(d.config, at) }) {
		o.Replaced = slices.Collect(maps.Values(own))
	}
	ln, err := host.Listen(address, o)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && len(own) > 0:
		return nil, fmt.Errorf("%s overlaps %s, where the proxy itself listens now: take that one out first and reload, or restart", address, slices.Sorted(maps.Keys(own))[0])
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use: stop the program that listens there (a broker, another proxy) or choose another address", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("no permission to listen on %s: ports below 1024 need a privilege", address)
	}
	return ln, err
}

// socketsAt returns the sockets of g that have the port of an address, by their own
// address in the config.
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
		add(g.config.Admin.Address, g.admin.socket.Listener)
	}
	return found
}

// wants reports whether the config has an address.
func wants(c *config.Config, address string) bool {
	return c.Admin.Address == address || slices.ContainsFunc(c.Listeners, func(l config.Listener) bool { return l.Address == address })
}
