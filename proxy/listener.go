package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
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
}

// entry is where a connection came in.
type entry struct {
	label   string
	tls     *tls.Config
	proxies []netip.Prefix
}

func (e *entry) name() string { return e.label }

func entryOf(ln net.Listener) *entry {
	e := &entry{label: ln.Addr().String()}
	if l, ok := ln.(*Listener); ok {
		if l.Name != "" {
			e.label = l.Name
		}
		if l.TLS != nil {
			e.tls = limitHandshakes(l.TLS)
		}
		e.proxies = l.ProxyProtocol
	}
	return e
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
