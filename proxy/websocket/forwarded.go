package websocket

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// client returns the address that trusted reverse proxies tell, invalid if there is
// none to be believed.
//
// Each proxy adds the address that it saw at the end of the list, so the list is
// believed from its end on, as far as those who wrote it are trusted. Two lists that
// tell different stories are refused: a proxy writes one of them and passes on what
// a client put into the other.
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
			return netip.Addr{}, badRequest("the address that the client was forwarded for cannot be read")
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

// walk returns the last hop that is not trusted, or else the first.
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

// parseHop reads an address with or without a port.
func parseHop(text string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(text)
		addr = withPort.Addr()
	}
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

// forwardedFor returns the for parameters of the field Forwarded (RFC 7239 section
// 4). What has none is a hop that cannot be read.
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
