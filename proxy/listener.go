package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// Listener is a net.Listener with settings for its connections. A [Server] serves any
// net.Listener; one that is not a *Listener is plain MQTT and named after its address.
type Listener struct {
	net.Listener
	// Name is the name in logs, metrics and requests to token sources; empty means the
	// address.
	Name string
	// TLS, if not nil, makes it a TLS listener. The connections of the inner listener
	// must be plain, because the server does the handshakes itself to limit them.
	TLS *tls.Config
	// ProxyProtocol lists the networks of load balancers that send a PROXY protocol header
	// at the beginning of every connection, before TLS. If there are any, the listener is
	// for these load balancers only: connections from other addresses, or without a
	// header, are closed. The address in the header is the client's address then.
	ProxyProtocol []netip.Prefix
	// WebSocket, if not nil, makes it a listener for MQTT over WebSocket only.
	WebSocket *websocket.Endpoint

	current atomic.Pointer[listenerSettings] // nil before the first connection or Update
}

// Update applies the settings of next, all but the socket, to the connections that l
// accepts from now on. It may be called while l is served. The fields of l itself do not
// change. If the TLS config is the same one, session tickets stay valid.
func (l *Listener) Update(next *Listener) {
	l.current.Store(newSettings(l.Listener, next, l.current.Load()))
}

// settings returns the settings for a connection that is accepted now.
func (l *Listener) settings() *listenerSettings {
	if e := l.current.Load(); e != nil {
		return e
	}
	l.current.CompareAndSwap(nil, newSettings(l.Listener, l, nil))
	return l.current.Load()
}

// listenerSettings is what the connections of a listener need to know of it.
type listenerSettings struct {
	name    string
	given   *tls.Config // as it is in the Listener; tls is made of it
	tls     *tls.Config
	proxies []netip.Prefix
	ws      *websocket.Endpoint
}

// newSettings returns the settings for connections of socket. old is what was in force
// before, or nil.
func newSettings(socket net.Listener, settings *Listener, old *listenerSettings) *listenerSettings {
	e := &listenerSettings{name: settings.Name, given: settings.TLS, proxies: settings.ProxyProtocol, ws: settings.WebSocket}
	if e.name == "" {
		e.name = socket.Addr().String()
	}
	switch {
	case e.given == nil:
	case old != nil && old.given == e.given:
		e.tls = old.tls // which holds the session ticket keys
	default:
		e.tls = limitHandshakes(e.given)
	}
	return e
}

// settingsOf returns a function that returns the settings for the next connection of ln.
func settingsOf(ln net.Listener) func() *listenerSettings {
	if l, ok := ln.(*Listener); ok {
		return l.settings
	}
	e := &listenerSettings{name: ln.Addr().String()}
	return func() *listenerSettings { return e }
}

// addrPortOf returns the address of a TCP connection, with an IPv4 address in its 4-byte
// form. It returns the zero value for other addresses.
func addrPortOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
