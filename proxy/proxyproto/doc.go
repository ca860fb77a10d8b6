// Package proxyproto reads and writes the header with which a load balancer passes on the
// addresses of a client: the PROXY protocol, versions 1 and 2
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//
// [Read] takes exactly one header from a connection, and the caller continues with the
// connection itself:
//
//	header, err := proxyproto.Read(conn)
//	if err == nil && header.Source.IsValid() {
//		client = header.Source
//	}
//
// [Header.Append] makes a header, which is sent before everything else.
//
// # Rules
//
//   - A peer that can send a header can claim any address. Read a header only from peers that
//     are trusted, and require it from them, since without one the client is not known.
//   - Read never takes a byte beyond the header, so the connection needs no wrapper. It sets
//     no deadline; that is up to the caller.
//   - A header that is not valid is refused and never repaired: a wrong signature, at its
//     first wrong byte; a version, command or family that the specification does not have;
//     an address of another family; an element that is cut off or occurs twice; a wrong
//     checksum. A header may have up to 4 KiB.
//   - A header without an address (LOCAL, UNKNOWN, UNSPEC, a Unix socket) leaves Source
//     invalid. The address of the connection then counts.
package proxyproto
