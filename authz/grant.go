package authz

import (
	"net/netip"
	"strings"
	"time"
)

// Grant means that a token is valid, and describes the device that it belongs to. It is
// immutable once returned and may be shared by any number of sessions.
type Grant struct {
	// TokenID names the token without revealing it: unique within its source, at most 128
	// bytes. It can be used to revoke the token.
	TokenID string
	// Subject is the owner of the token: the device. Several tokens may have the same subject.
	Subject string
	// PairHash shows that the grant was given for the Pair of the request and not for its token.
	// It is then what the function of that name returns. For a token it is zero.
	PairHash [32]byte
	// Upstream replaces the configured credentials for the broker.
	Upstream Upstream
	// Only lists the conditions under which the grant may be used.
	Only Conditions
	// ACL is what the session may publish and subscribe to; nil means the configured rules.
	ACL *ACL
	// Limits bound the sessions that use the grant. Limits that are not set are those of the
	// configuration.
	Limits Limits
	// Role is what the sessions are for.
	Role Role
	// Superuser exempts the session from the configured topic rules and topic map, but never
	// from a limit.
	Superuser bool
	// Gateway means that the device may speak for the devices behind it, on the topics that the
	// bundled broker has for that. It has no effect with other brokers.
	Gateway bool
	// Attrs are values for templates and topic rules.
	Attrs map[string]string
	// Expires ends the grant and every session that uses it; zero means never.
	Expires time.Time
	// Recheck is the interval after which live sessions ask again; zero means
	// never.
	Recheck time.Duration
	// Keep is how long the grant may be reused for other requests.
	Keep Keep
}

// Upstream has the credentials for the broker that come with a grant. Empty fields mean the
// configured ones.
type Upstream struct {
	Username string
	Password Token
	ClientID string
}

// Conditions limit where, when and by whom a grant may be used. Zero fields set no limit.
type Conditions struct {
	// ClientIDs lists the client identifiers that may use the grant. An entry that ends in *
	// matches every identifier with that prefix.
	ClientIDs []string
	// Usernames lists the MQTT user names, in the same form.
	Usernames []string
	// Certificates lists the client certificates of which the device must present one, in the
	// forms that [CheckCertificateName] describes. The certificate is a second factor besides
	// the token.
	Certificates []string
	// Addrs lists the networks from which the device may connect.
	Addrs []netip.Prefix
	// NotBefore is the time from which the grant is valid.
	NotBefore time.Time
}

// Check checks the grant's own conditions: it returns nil if r may use the grant at the time
// now, and otherwise a [*Denial]. It must be called on every use, because a grant that allowed
// one CONNECT need not allow the next.
func (g *Grant) Check(r Request, now time.Time) error {
	clientID, username, name := r.ClientID, r.Username, "token"
	if g.IsPair() {
		clientID, username, name = r.Pair.ClientID, r.Pair.Username, "user name"
	}
	switch {
	case !g.Expires.IsZero() && !now.Before(g.Expires):
		return g.denial(Expired, "since "+g.Expires.UTC().Format(time.RFC3339))
	case now.Before(g.Only.NotBefore):
		return g.denial(NotYetValid, "until "+g.Only.NotBefore.UTC().Format(time.RFC3339))
	case !matchesAny(g.Only.ClientIDs, clientID):
		return g.denial(WrongClientID, "the "+name+" is bound to other client ids")
	case !matchesAny(g.Only.Usernames, username):
		return g.denial(WrongUsername, "the "+name+" is bound to other user names")
	case !g.Only.allows(r.Addr.Addr()):
		return g.denial(WrongAddress, "the "+name+" is bound to other networks")
	case !g.Only.identifies(r.Peer):
		return g.denial(WrongCertificate, "the "+name+" is bound to other client certificates")
	}
	return nil
}

func (g *Grant) denial(r Reason, detail string) error {
	return &Denial{Reason: r, Detail: detail, Subject: g.Subject}
}

// IsPair reports whether the grant was given for a pair.
func (g *Grant) IsPair() bool { return g.PairHash != [32]byte{} }

func matchesAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(s, prefix) || p == s {
			return true
		}
	}
	return len(patterns) == 0
}

func (c *Conditions) allows(a netip.Addr) bool {
	// An IPv4 client of a dual-stack listener has an address like ::ffff:a.b.c.d, and a prefix
	// never contains an address with a zone (fe80::1%eth0).
	a = a.Unmap().WithZone("")
	for _, p := range c.Addrs {
		if p.Contains(a) {
			return true
		}
	}
	return len(c.Addrs) == 0
}
