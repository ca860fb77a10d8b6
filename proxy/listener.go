package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// Listener is a net.Listener with what the proxy needs to know of it. A
// [Server] serves any net.Listener; one that is not a *Listener is plain MQTT and
// named after its address.
type Listener struct {
	net.Listener
	// Name stands in logs, metrics and requests to token sources; empty means
	// the address.
	Name string
	// TLS makes it a TLS listener. The connections of the inner listener must be
	// plain: the server does the handshakes, so that it can limit them.
	TLS *tls.Config
	// ProxyProtocol are the networks of load balancers that begin every connection
	// with a PROXY protocol header, before TLS. If there are any, the listener is for
	// them alone: connections from elsewhere, or without a header, are closed. The
	// address in the header then stands for the client's in every respect.
	ProxyProtocol []netip.Prefix
	// WebSocket makes it a listener for MQTT over WebSocket, and for nothing else.
	WebSocket *websocket.Endpoint

	current atomic.Pointer[listenerSettings] // what the fields said when it was last asked
}

// Update applies the settings of next, all but the socket, to the connections that l
// accepts from now on. It may be called while l is served. The fields of l itself do not
// change. If the TLS config is the same one, session tickets stay valid.
func (l *Listener) Update(next *Listener) {
	l.current.Store(newSettings(l.Listener, next, l.current.Load()))
}

// entry returns where a connection comes in that is accepted now.
func (l *Listener) settings() *listenerSettings {
	if e := l.current.Load(); e != nil {
		return e
	}
	l.current.CompareAndSwap(nil, newSettings(l.Listener, l, nil))
	return l.current.Load()
}

// entry is where a connection came in.
type listenerSettings struct {
	name    string
	given   *tls.Config // tls as the Listener has it
	tls     *tls.Config
	proxies []netip.Prefix
	ws      *websocket.Endpoint
}

// newSettings returns what settings say about connections of socket; old is the one
// before, if there was one.
func newSettings(socket net.Listener, settings *Listener, old *listenerSettings) *listenerSettings {
	e := &listenerSettings{name: settings.Name, given: settings.TLS, proxies: settings.ProxyProtocol, ws: settings.WebSocket}
	if e.name == "" {
		e.name = socket.Addr().String()
	}
	switch {
	case e.given == nil:
	case old != nil && old.given == e.given:
		e.tls = old.tls // it holds the keys of the tickets
	default:
		e.tls = limitHandshakes(e.given)
	}
	return e
}

// entries returns what tells where a connection of ln comes in.
func settingsOf(ln net.Listener) func() *listenerSettings {
	if l, ok := ln.(*Listener); ok {
		return l.settings
	}
	e := &listenerSettings{name: ln.Addr().String()}
	return func() *listenerSettings { return e }
}

// addrPortOf returns the address of a TCP connection with a v4 address in its
// v4 form; the zero value for others.
func addrPortOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
