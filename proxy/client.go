package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Client is what is known of one session. It is immutable; after a change the session has
// another one, see [Server.Clients].
type Client struct {
	// ID is the number of the session within this server, counted from 1.
	ID uint64
	// ClientID is the client identifier in a form that may be shown: the client's own, or
	// one that was made up or assigned by the broker for a client that sent none. If the
	// client's own is its token or password, it is the fingerprint of that.
	ClientID string
	// Grant is the answer of the Authorizer that is in force.
	Grant *authz.Grant
	// TokenHash is the SHA-256 digest of the token, or else the PairHash of the grant.
	TokenHash [32]byte
	// Addr is the client's address, the zero value if the connection has none.
	Addr netip.AddrPort
	// Listener is the name of the listener that accepted the connection.
	Listener string
	// Level is the protocol level: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.
	Level byte
	// TLS is the TLS version, 0 without TLS.
	TLS uint16
	// Server is the name of the broker that the session is connected to, see [Link].
	Server string
	// Since is when the connection was accepted.
	Since time.Time

	chains *[][]*x509.Certificate // nil without a client certificate
}

// VerifiedChains returns the chains that verify the client's certificate, as
// [tls.ConnectionState] has them. Without a client certificate there are none. The caller
// must not change them.
func (c *Client) VerifiedChains() [][]*x509.Certificate {
	if c.chains == nil {
		return nil
	}
	return *c.chains
}

// Subject returns the device or user that the token belongs to.
func (c *Client) Subject() string { return c.Grant.Subject }

// Fingerprint returns the printable fingerprint of TokenHash.
func (c *Client) Fingerprint() string { return authz.FingerprintOf(c.TokenHash) }

// Version returns the MQTT version: 3.1, 3.1.1 or 5.0.
func (c *Client) Version() string { return versionName(c.Level) }

// TLSVersion returns the name of the TLS version. It is empty without TLS.
func (c *Client) TLSVersion() string {
	if c.TLS == 0 {
		return ""
	}
	return tls.VersionName(c.TLS)
}

// versionName returns the MQTT version with the given protocol level, empty for an unknown
// level.
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
