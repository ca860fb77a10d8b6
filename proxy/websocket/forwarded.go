package websocket

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// client returns the client's address as reported by trusted reverse proxies, or an invalid
// address if there is none.
//
// Each proxy appends the address that it saw, so the list is evaluated from its end, as long as
// the entries were written by trusted proxies. The request is refused if both headers exist and
// give different addresses: a proxy writes only one of them and passes on what a client put
// into the other.
func (e *Endpoint) client(h http.Header, peer netip.Addr) (netip.Addr, error) {
	if !e.trusts(peer) {
		return netip.Addr{}, nil
	}
	var addrs []netip.Addr
	for _, hops := range [][]string{tokens(h, "X-Forwarded-For"), forwardedFor(h)} {
		if len(hops) == 0 {
			continue
		}
		addr, ok := e.walk(hops)
		if !ok {
			return netip.Addr{}, badRequest("the forwarded address of the client cannot be parsed")
		}
		addrs = append(addrs, addr)
	}
	switch {
	case len(addrs) == 0:
		return netip.Addr{}, nil
	case len(addrs) == 2 && addrs[0] != addrs[1]:
		return netip.Addr{}, badRequest("X-Forwarded-For and Forwarded contradict each other")
	}
	return addrs[0], nil
}

func (e *Endpoint) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(e.Trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// walk returns the last hop that is not trusted, or the first hop if all are trusted.
func (e *Endpoint) walk(hops []string) (addr netip.Addr, ok bool) {
	for _, hop := range slices.Backward(hops) {
		if addr, ok = parseHop(hop); !ok {
			return addr, false
		}
		if !e.trusts(addr) {
			break
		}
	}
	return addr, ok
}

// parseHop parses an address with or without a port.
func parseHop(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(text)
		addr = withPort.Addr()
	}
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

// forwardedFor returns the for parameters of the Forwarded header (RFC 7239 section 4). An
// element without one becomes a hop that cannot be parsed.
func forwardedFor(h http.Header) (hops []string) {
	for _, element := range tokens(h, "Forwarded") {
		hop := ""
		for pair := range strings.SplitSeq(element, ";") {
			if name, value, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && strings.EqualFold(name, "for") {
				hop = strings.Trim(value, `"`)
			}
		}
		hops = append(hops, hop)
	}
	return hops
}
