// Package proxyproto reads and writes the header by which a load balancer tells
// whose connection it hands on: the PROXY protocol, versions 1 and 2
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//
// [Read] takes exactly one header from a connection, and the caller goes on with
// the connection itself:
//
//	header, err := proxyproto.Read(conn)
//	if err == nil && header.Source.IsValid() {
//		client = header.Source
//	}
//
// and [Header.Append] makes one to be sent ahead of everything else.
//
// # Rules
//
//   - Whoever can send a header can claim any address. Read one only from peers that
//     are trusted, and then insist on it: without a header nobody is known.
//   - Read never takes a byte beyond the header, so the connection needs no wrapper
//     and stays what it was. It sets no deadline; the caller does.
//   - A header is refused rather than repaired: a wrong signature at its first wrong
//     byte, a version, command or family that the specification does not have, an
//     address that is not of its family, an element that is cut off or stands twice,
//     a checksum that does not fit. It may have up to 4 KiB.
//   - A header without an address (LOCAL, UNKNOWN, UNSPEC, a Unix socket) leaves
//     Source invalid: the connection's own address stands.
package proxyproto
