package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// parseLine reads a header of version 1 without its line end (section 2.1).
func parseLine(line string) (*Header, error) {
	fields := strings.Split(line, " ")
	family := fields[1]
	switch {
	case family == "UNKNOWN":
		// The rest of the line must be ignored.
		return &Header{Local: true}, nil
	case family != "TCP4" && family != "TCP6":
		return nil, malformed("unknown family")
	case len(fields) != 6:
		return nil, malformed("%d fields instead of 6", len(fields))
	}
	source, err := parseAddress(family, fields[2], fields[4])
	if err != nil {
		return nil, err
	}
	destination, err := parseAddress(family, fields[3], fields[5])
	if err != nil {
		return nil, err
	}
	return &Header{Source: source, Destination: destination}, nil
}

func parseAddress(family, host, port string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" || addr.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, malformed("not an address of %s", family)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, malformed("not a port")
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

// parseBody reads a complete header of version 2 whose command is PROXY.
func parseBody(raw []byte) (*Header, error) {
	family, body := raw[13], raw[fixedSize:]
	h, size := new(Header), 0
	switch family {
	case unspec:
	case tcp4:
		size = tcp4Size
	case tcp6:
		size = tcp6Size
	case unixStream:
		size = unixSize
	default:
		return nil, malformed("family and protocol %#02x are not those of a stream", family)
	}
	if len(body) < size {
		return nil, malformed("%d bytes are too few for the addresses of family and protocol %#02x", len(body), family)
	}
	if family == tcp4 || family == tcp6 {
		h.Source, h.Destination = addresses(body[:size])
	}
	if err := h.parseElements(raw, body[size:]); err != nil {
		return nil, err
	}
	return h, nil
}

// addresses reads two addresses of equal length, followed by their ports.
func addresses(b []byte) (source, destination netip.AddrPort) {
	ports := len(b) - 4
	at := func(addr []byte, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(addr) // which has 4 or 16 bytes
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[port:]))
	}
	return at(b[:ports/2], ports), at(b[ports/2:ports], ports+2)
}
