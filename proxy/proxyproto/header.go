package proxyproto

import (
	"errors"
	"net/netip"
)

// ErrNoHeader is returned for a connection that does not begin with a header.
var ErrNoHeader = errors.New("no PROXY protocol header")

// ErrMalformed is wrapped by the errors for headers that violate the specification.
var ErrMalformed = errors.New("malformed PROXY protocol header")

// Header describes the client of the connection. The zero value and nil mean that the sender
// connects for itself.
type Header struct {
	// Local reports that the sender connects for itself, most likely for a health check: LOCAL
	// in version 2, UNKNOWN in version 1.
	Local bool
	// Source is the client's address, and Destination the address that it connected to. IPv4
	// addresses are not mapped to IPv6. An unknown address is invalid.
	Source, Destination netip.AddrPort

	// Authority is the host name that the client asked for (TLS SNI). ALPN is the negotiated
	// protocol. These and all following fields exist only in version 2.
	Authority, ALPN string
	// UniqueID is the sender's identifier for the connection: up to 128 arbitrary bytes.
	UniqueID string
	// SSL is nil if the client did not use TLS, or if that is not known.
	SSL *SSL
}

// SSL describes the client's TLS.
type SSL struct {
	// Version and Cipher are as OpenSSL writes them: TLSv1.3,
	// ECDHE-ECDSA-AES128-GCM-SHA256.
	Version, Cipher string
	// Verified reports that the client presented a certificate that was verified. Resumed
	// reports that it did so in an earlier TLS session that this connection resumes.
	Verified, Resumed bool
	// CommonName is the common name of the certificate.
	CommonName string
}

// signature begins a header of version 2 (section 2.2), prefix one of version 1
// (section 2.1). No header of either version is shorter than the signature.
const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	prefix    = "PROXY "
)

const (
	fixedSize   = 16   // of version 2, in bytes
	maxLine     = 107  // of version 1, in bytes, including the line end
	maxBody     = 4096 // of version 2 after the fixed part, in bytes
	maxText     = 1024 // of one text that is sent, in bytes
	maxUniqueID = 128  // section 2.2.5
)

// Commands and families of version 2 (section 2.2).
const (
	versionMask = 0xF0
	version2    = 0x20
	cmdLocal    = 0x0
	cmdProxy    = 0x1

	unspec     = 0x00
	tcp4       = 0x11
	tcp6       = 0x21
	unixStream = 0x31
)

// Lengths of the addresses of each family.
const (
	tcp4Size = 2*4 + 2*2
	tcp6Size = 2*16 + 2*2
	unixSize = 2 * 108
)

// Types of the elements after the addresses (section 2.2), and of those within the TLS element.
const (
	typeALPN      = 0x01
	typeAuthority = 0x02
	typeCRC32C    = 0x03
	typeUniqueID  = 0x05
	typeSSL       = 0x20

	subVersion    = 0x21
	subCommonName = 0x22
	subCipher     = 0x23
)

// Flags of the TLS element (section 2.2.6).
const (
	clientSSL         = 0x01
	clientCertConn    = 0x02
	clientCertSession = 0x04
)
