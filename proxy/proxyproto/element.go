package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
)

// each calls f with the type and value of every element in b. A truncated element is an error,
// and so is a known type that occurs twice, because it would be ambiguous.
func each(b []byte, f func(kind byte, value []byte) error) error {
	var seen [256]bool
	for len(b) > 0 {
		if len(b) < 3 || len(b)-3 < int(binary.BigEndian.Uint16(b[1:])) {
			return malformed("an element is truncated")
		}
		kind, end := b[0], 3+int(binary.BigEndian.Uint16(b[1:]))
		if seen[kind] && known(kind) {
			return malformed("element %#02x occurs twice", kind)
		}
		seen[kind] = true
		if err := f(kind, b[3:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}

// known reports whether this package uses elements of that type. The types of both levels are
// disjoint.
func known(kind byte) bool {
	switch kind {
	case typeALPN, typeAuthority, typeCRC32C, typeUniqueID, typeSSL, subVersion, subCommonName, subCipher:
		return true
	}
	return false
}

// parseElements reads the elements that follow the addresses. Unknown types are skipped
// (section 2.2).
func (h *Header) parseElements(raw, b []byte) error {
	return each(b, func(kind byte, value []byte) error {
		switch kind {
		case typeALPN:
			h.ALPN = string(value)
		case typeAuthority:
			h.Authority = string(value)
		case typeCRC32C:
			if !fits(raw, value) {
				return malformed("the checksum is wrong")
			}
		case typeUniqueID:
			if len(value) > maxUniqueID {
				return malformed("a unique id of %d bytes, at most %d are allowed", len(value), maxUniqueID)
			}
			h.UniqueID = string(value)
		case typeSSL:
			return h.parseSSL(value)
		}
		return nil
	})
}

// fits reports whether sum, which is a part of raw, is the CRC-32C of raw with zeros in place
// of sum (section 2.2.3).
func fits(raw, sum []byte) bool {
	if len(sum) != 4 {
		return false
	}
	want := binary.BigEndian.Uint32(sum)
	clear(sum)
	return crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)) == want
}

// parseSSL reads the TLS element (section 2.2.6). HAProxy also sends it for clients without
// TLS, with no flag set.
func (h *Header) parseSSL(b []byte) error {
	if len(b) < 5 {
		return malformed("a TLS element of %d bytes", len(b))
	}
	flags, verify := b[0], binary.BigEndian.Uint32(b[1:])
	ssl := &SSL{
		Verified: flags&(clientCertConn|clientCertSession) != 0 && verify == 0,
		Resumed:  flags&clientCertConn == 0 && flags&clientCertSession != 0,
	}
	err := each(b[5:], func(kind byte, value []byte) error {
		switch kind {
		case subVersion:
			ssl.Version = string(value)
		case subCommonName:
			ssl.CommonName = string(value)
		case subCipher:
			ssl.Cipher = string(value)
		}
		return nil
	})
	if flags&clientSSL != 0 {
		h.SSL = ssl
	}
	return err
}
