package service

import (
	"fmt"
	"net/netip"
	"reflect"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/certs"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// listeners are the listeners of one generation.
type listeners []*listener

// listener is one address that devices connect to, in one generation. Listeners with the same
// address share the socket.
type listener struct {
	*socket
	config   config.Listener
	nth      int // position among those with the same address, which is possible with port 0
	settings *proxy.Listener
	identity *certificates // nil without TLS
}

// served returns the proxy.Listener that is served on the socket of l.
func (l *listener) served() *proxy.Listener { return l.socket.Listener.(*proxy.Listener) }

func listenerKey(i int) string { return fmt.Sprintf("listeners[%d]", i) }

// openListeners opens the sockets that devices connect to and loads their certificates.
// Listeners whose configuration has not changed are those of old; others keep the socket of
// their address. With an error it returns the listeners that it has opened so far.
func openListeners(c *config.Config, old listeners, bind binder) (all listeners, err error) {
	for i, lc := range c.Listeners {
		l := &listener{config: lc, nth: all.count(lc.Address), settings: settingsOf(lc)}
		kept := old.at(lc.Address, l.nth)
		if kept != nil && reflect.DeepEqual(kept.config, lc) {
			all = append(all, kept)
			continue
		}
		if err := l.secure(kept, ownAuthority(c)); err != nil {
			return all, faultAt(c, listenerKey(i)+".tls", err)
		}
		if err := l.open(kept, bind); err != nil {
			return all, faultAt(c, listenerKey(i)+".address", err)
		}
		all = append(all, l)
	}
	return all, nil
}

// settingsOf returns the settings for connections of a listener, except TLS.
func settingsOf(c config.Listener) *proxy.Listener {
	l := &proxy.Listener{Name: c.Name}
	if c.ProxyProtocol != nil {
		l.ProxyProtocol = networks(c.ProxyProtocol.Trusted)
	}
	if w := c.WebSocket; w != nil {
		l.WebSocket = &websocket.Endpoint{Paths: w.Path, Origins: w.Origins, Trusted: networks(w.Trusted)}
	}
	return l
}

// secure makes l a TLS listener if that is configured. If the configuration has not changed, it
// keeps the certificates of the previous listener, with the versions of the files that they
// were loaded from.
func (l *listener) secure(before *listener, authority *certs.Authority) (err error) {
	c := l.config
	switch {
	case c.TLS == nil:
		return nil
	case before != nil && reflect.DeepEqual(before.config.TLS, c.TLS) && (before.config.WebSocket == nil) == (c.WebSocket == nil):
		l.identity = before.identity
	default:
		if l.identity, err = openCertificates(c.TLS, authority, protocols(c)); err != nil {
			return err
		}
	}
	l.settings.TLS = l.identity.tls
	return nil
}

// open gives l the socket of the previous listener, or a new one if there is none.
func (l *listener) open(before *listener, bind binder) (err error) {
	if before != nil {
		l.socket = before.socket
		return nil
	}
	if l.settings.Listener, err = bind.listen(l.config.Address, l.config.ReusePort); err != nil {
		return err
	}
	l.socket = &socket{Listener: l.settings, label: l.config.Name}
	return nil
}

// networks parses networks that the config package has checked.
func networks(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// protocols returns the ALPN names of the protocol of a listener.
func protocols(c config.Listener) []string {
	if c.WebSocket != nil {
		return []string{"http/1.1"}
	}
	return []string{"mqtt"}
}

// at returns the nth listener with an address, or nil if there is none.
func (all listeners) at(address string, nth int) *listener {
	for _, l := range all {
		if l.config.Address == address && l.nth == nth {
			return l
		}
	}
	return nil
}

// count returns how many listeners have an address.
func (all listeners) count(address string) (n int) {
	for _, l := range all {
		if l.config.Address == address {
			n++
		}
	}
	return n
}

// update applies the settings of l to connections accepted from now on.
func (l *listener) update() {
	if l.settings != l.served() {
		l.served().Update(l.settings)
	}
}
