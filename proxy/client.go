package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Client is what is known of one session. It is immutable: a change publishes a
// new one, see [Server.Clients].
type Client struct {
	// ID names the session within this process, from 1 on.
	ID uint64
	// ClientID is the client identifier as it may be shown: the client's own, the one
	// made up for a client that sent none, the one that the broker assigned, or the
	// token's fingerprint where the client's own is its token.
	ClientID string
	// Grant is the answer that let the client in.
	Grant *authz.Grant
	// TokenHash is the SHA-256 digest of the token.
	TokenHash [32]byte
	// Addr is the client's address, the zero value if the connection has none.
	Addr netip.AddrPort
	// Listener is the name of the listener the client came in by.
	Listener string
	// Level is the protocol level: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.
	Level byte
	// TLS is the TLS version, 0 without TLS.
	TLS uint16
	// Server names the broker that the session is connected to, as [Link] does.
	Server string
	// Since is when the connection was accepted.
	Since time.Time

	chains *[][]*x509.Certificate // nil without a client certificate
}

// VerifiedChains returns the chains by which the client's certificate was verified, as
// [tls.ConnectionState] has them; none without a client certificate. The caller must not
// change them.
func (c *Client) VerifiedChains() [][]*x509.Certificate {
	if c.chains == nil {
		return nil
	}
	return *c.chains
}

// Subject returns whom the token belongs to.
func (c *Client) Subject() string { return c.Grant.Subject }

// Fingerprint returns the printable fingerprint of the token.
func (c *Client) Fingerprint() string { return authz.FingerprintOf(c.TokenHash) }

// Version returns the MQTT version as people write it: 3.1, 3.1.1 or 5.0.
func (c *Client) Version() string { return versionName(c.Level) }

// TLSVersion returns the name of the TLS version, empty without TLS.
func (c *Client) TLSVersion() string {
	if c.TLS == 0 {
		return ""
	}
	return tls.VersionName(c.TLS)
}

func versionName(level byte) string {
	switch level {
	case 3:
		return "3.1"
	case 4:
		return "3.1.1"
	case 5:
		return "5.0"
	}
	return ""
}
