package admin

import (
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Access says by which tokens and names the admin side may be used.
type Access struct {
	Tokens Tokens
	// Address is the address in the configuration, host:port.
	Address string
	// Hosts are further names by which browsers may reach the admin side.
	Hosts []string
	// Certificates returns the certificates of the server, whose names browsers may use. It is
	// nil without TLS.
	Certificates func() []*x509.Certificate
}

// named reports whether the Host header of a request is a name of the admin side. A page
// of an attacker whose name resolves to this machine (DNS rebinding) has another one, and would
// otherwise share the origin of the admin side.
func (a *Access) named(r *http.Request) bool {
	host := hostOf(r.Host)
	if host == "" {
		return false
	}
	if host == "localhost" || host == hostOf(a.Address) || a.listed(host) {
		return true
	}
	if addr, err := netip.ParseAddr(host); err == nil && (addr.IsLoopback() || addr.Unmap() == localAddr(r)) {
		return true
	}
	return a.Certificates != nil && slices.ContainsFunc(a.Certificates(), func(c *x509.Certificate) bool { return c.VerifyHostname(host) == nil })
}

// listed reports whether the configuration lists a host.
func (a *Access) listed(host string) bool {
	return slices.ContainsFunc(a.Hosts, func(name string) bool { return hostOf(name) == host })
}

// guarded reports whether a token that is typed into a form cannot be read on the way, or the
// operator has named the host and thereby accepted the way to it.
func (a *Access) guarded(r *http.Request) bool {
	return r.TLS != nil || localAddr(r).IsLoopback() || a.listed(hostOf(r.Host))
}

// hostOf returns the host of a Host header or an address, without port, brackets, the dot at the
// end and upper case.
func hostOf(address string) string {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// localAddr returns the address of this machine that the client has connected to, or the zero
// Addr if it is not known.
func localAddr(r *http.Request) netip.Addr {
	return localAddrPort(r).Addr().Unmap().WithZone("")
}

func localAddrPort(r *http.Request) netip.AddrPort {
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return at.AddrPort()
	}
	return netip.AddrPort{}
}
