package proxyproto

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Append appends the header in version 1 or 2 to dst. Version 1 carries only addresses. Append
// fails only for another version, and for a text of more than 1024 bytes: a text is never
// shortened, because it may be an identity.
//
// Both addresses have the source's family. If the destination has the other family, because
// there is a gateway in between, it is replaced by zeros.
func (h *Header) Append(dst []byte, version int) ([]byte, error) {
	if h == nil {
		h = &Header{Local: true}
	}
	source, destination := h.Source, h.Destination
	if source.IsValid() {
		source = netip.AddrPortFrom(source.Addr().Unmap().WithZone(""), source.Port())
		destination = inFamily(source.Addr(), destination)
	}
	switch version {
	case 1:
		return h.appendLine(dst, source, destination), nil
	case 2:
		return h.appendBody(dst, source, destination)
	}
	return dst, fmt.Errorf("there is no version %d of the PROXY protocol", version)
}

// inFamily returns a in the address family of like.
func inFamily(like netip.Addr, a netip.AddrPort) netip.AddrPort {
	addr := a.Addr().Unmap().WithZone("")
	switch {
	case addr.IsValid() && addr.Is4() == like.Is4():
	case like.Is4():
		addr = netip.IPv4Unspecified()
	default:
		addr = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(addr, a.Port())
}

func (h *Header) appendLine(dst []byte, source, destination netip.AddrPort) []byte {
	if h.Local || !source.IsValid() {
		return append(dst, prefix+"UNKNOWN\r\n"...)
	}
	family := "TCP6"
	if source.Addr().Is4() {
		family = "TCP4"
	}
	return fmt.Appendf(dst, "%s%s %s %s %d %d\r\n", prefix, family, source.Addr(), destination.Addr(), source.Port(), destination.Port())
}

func (h *Header) appendBody(dst []byte, source, destination netip.AddrPort) ([]byte, error) {
	start := len(dst)
	dst = append(dst, signature...)
	if h.Local {
		return append(dst, version2|cmdLocal, unspec, 0, 0), nil
	}
	family := byte(unspec)
	switch {
	case !source.IsValid():
	case source.Addr().Is4():
		family = tcp4
	default:
		family = tcp6
	}
	dst = append(dst, version2|cmdProxy, family, 0, 0)
	if family != unspec {
		dst = append(dst, source.Addr().AsSlice()...)
		dst = append(dst, destination.Addr().AsSlice()...)
		dst = binary.BigEndian.AppendUint16(dst, source.Port())
		dst = binary.BigEndian.AppendUint16(dst, destination.Port())
	}
	dst, err := h.appendElements(dst)
	if err != nil {
		return dst[:start], err
	}
	binary.BigEndian.PutUint16(dst[start+14:], uint16(len(dst)-start-fixedSize))
	return dst, nil
}

// appendElements appends the elements that follow the addresses. No text is longer than
// maxText, so their length always fits into 16 bits.
func (h *Header) appendElements(dst []byte) ([]byte, error) {
	texts := []string{h.ALPN, h.Authority, h.UniqueID}
	if h.SSL != nil {
		texts = append(texts, h.SSL.Version, h.SSL.Cipher, h.SSL.CommonName)
	}
	for _, text := range texts {
		if len(text) > maxText {
			return dst, fmt.Errorf("a text of %d bytes does not fit into a PROXY protocol header", len(text))
		}
	}
	dst = appendText(dst, typeALPN, h.ALPN)
	dst = appendText(dst, typeAuthority, h.Authority)
	dst = appendText(dst, typeUniqueID, h.UniqueID)
	if h.SSL == nil {
		return dst, nil
	}
	at := len(dst)
	dst = h.SSL.append(append(dst, typeSSL, 0, 0))
	binary.BigEndian.PutUint16(dst[at+1:], uint16(len(dst)-at-3))
	return dst, nil
}

// append appends the value of the TLS element. Its verify field is zero only for a certificate
// that was verified (section 2.2.6).
func (s *SSL) append(dst []byte) []byte {
	flags, verify := byte(clientSSL), uint32(1)
	if s.Verified {
		flags, verify = flags|clientCertSession, 0
		if !s.Resumed {
			flags |= clientCertConn
		}
	}
	dst = binary.BigEndian.AppendUint32(append(dst, flags), verify)
	dst = appendText(dst, subVersion, s.Version)
	dst = appendText(dst, subCipher, s.Cipher)
	return appendText(dst, subCommonName, s.CommonName)
}

// appendText appends an element unless it is empty.
func appendText(dst []byte, kind byte, text string) []byte {
	if text == "" {
		return dst
	}
	dst = binary.BigEndian.AppendUint16(append(dst, kind), uint16(len(text)))
	return append(dst, text...)
}
