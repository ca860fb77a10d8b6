package authz

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Authorizer decides whether the device behind a request may connect.
//
// Authorize returns a non-nil Grant and a nil error, or a nil Grant and an error
// of one of two kinds: errors.Is(err, [ErrDenied]) is a decision and may be
// remembered, everything else (including ctx's own error) means that no decision
// could be made. The Grant is immutable: neither side changes it afterwards.
//
// It is called from many goroutines at once, honours ctx, never panics on
// input, and puts no secret into its error.
type Authorizer interface {
	Authorize(ctx context.Context, r Request) (*Grant, error)
}

// Notifier is an optional power of an [Authorizer]: it learns of revocations by
// itself, from a changed file or a message of its source.
//
// Notify blocks until ctx is done and calls revoked, one call at a time, for
// every token or subject whose sessions must end, once Authorize no longer
// grants it. What was withdrawn after a Grant was handed out and before Notify was
// called is reported too. Notify returns nil when ctx is done, otherwise why it
// can no longer watch.
type Notifier interface {
	Notify(ctx context.Context, revoked func(Revocation)) error
}

// The outcomes that are not a Grant. Any error that is not ErrDenied counts as
// ErrUnavailable, whether it wraps that or not.
var (
	// ErrDenied is a decision: this device may not connect with this token.
	ErrDenied = errors.New("denied")
	// ErrUnknown is the denial of a source that does not know the token; another
	// source may.
	ErrUnknown = fmt.Errorf("%w: unknown token", ErrDenied)
	// ErrUnavailable means that no decision could be made. It is never a no.
	ErrUnavailable = errors.New("unavailable")
	// ErrBusy is the kind of unavailable that comes from too much work at once
	// (a full queue, a service that asks to be spared), not from a fault. It is no
	// outage: nothing old serves in its place.
	ErrBusy = fmt.Errorf("%w: busy", ErrUnavailable)
	// ErrUnsure is the kind of unavailable in which a source cannot tell yet whether
	// the token is one of its own, and has no say over the tokens of others: a
	// [Chain] still asks the next source, of which only a Grant counts then.
	ErrUnsure = fmt.Errorf("%w: cannot tell yet", ErrUnavailable)
	// ErrUnanswerable is the kind of unavailable that one question meets while the
	// source answers those of other addresses: the fault lies in the question, or in
	// what the source has on record for it.
	ErrUnanswerable = fmt.Errorf("%w for this device, not for others", ErrUnavailable)
	// ErrThrottled is the kind of unavailable in which the caller's address has
	// used up its budget of failures. Like ErrBusy it is no outage.
	ErrThrottled = fmt.Errorf("%w: too many failures from this address", ErrUnavailable)
)

// Purpose says why an Authorizer is asked.
type Purpose uint8

const (
	// Connect is a device that waits for its CONNACK.
	Connect Purpose = iota
	// Refresh renews an answer that is about to grow old; nobody waits.
	Refresh
	// Recheck asks again for sessions that are live.
	Recheck
)

// String returns the purpose as it stands in requests to a token service.
func (p Purpose) String() string {
	switch p {
	case Connect:
		return "connect"
	case Refresh:
		return "refresh"
	case Recheck:
		return "recheck"
	}
	return fmt.Sprintf("purpose(%d)", uint8(p))
}

// Request is what is known of a device that asks to connect.
type Request struct {
	// Token is the access token; never zero when an Authorizer is asked.
	Token Token
	// ClientID is the client identifier of the CONNECT, empty if it had none
	// (MQTT 5.0 section 3.1.3.1).
	ClientID string
	// Username is the user name of the CONNECT where it is not the token
	// itself, else empty (MQTT 5.0 section 3.1.3.5).
	Username string
	// Password is the password of the CONNECT where it is not the token itself
	// (MQTT 5.0 section 3.1.3.6).
	Password Token
	// Addr is the device's address; the zero value when it is not known.
	Addr netip.AddrPort
	// Listener is the name of the listener the connection came in by.
	Listener string
	// Peer is the verified client certificate, nil without one.
	Peer *x509.Certificate
	// Protocol is the protocol level: 3, 4 or 5.
	Protocol byte
	// Purpose says whether a device waits for the answer.
	Purpose Purpose
	// Known says that the source has granted the same question before. A cache sets
	// it, and a source may use it to tell devices from strangers while it cannot
	// answer both; other callers leave it false.
	Known bool
}

// Network returns the network that stands for one party in counts and budgets: the
// address itself for IPv4, the /64 for IPv6, which is the smallest network that a
// site gets. An IPv4 address is the same in either form. The zero Addr, of a device
// whose address is not known, has the zero Prefix.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return netip.Prefix{}
	}
	bits := 64
	if a.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// Revocation names tokens that are no longer good. Exactly one field is set.
type Revocation struct {
	TokenID   string
	Subject   string
	TokenHash [32]byte // SHA-256 of the token
}

// Matches reports whether the grant g, got with a token whose SHA-256 digest is
// hash, is meant by the revocation.
func (r Revocation) Matches(g *Grant, hash [32]byte) bool {
	switch {
	case r.TokenID != "":
		return r.TokenID == g.TokenID
	case r.Subject != "":
		return r.Subject == g.Subject
	}
	return r.TokenHash != [32]byte{} && r.TokenHash == hash
}

// Parts is a set of parts of a [Request], beside the token.
type Parts uint8

// The parts that may be in a [Parts]. The device's port is none: it is new with
// every connection, so that no answer that depended on it would ever serve twice.
const (
	// PartClientID is Request.ClientID.
	PartClientID Parts = 1 << iota
	// PartUsername is Request.Username.
	PartUsername
	// PartPassword is Request.Password.
	PartPassword
	// PartAddr is the IP address of Request.Addr, without the port.
	PartAddr
	// PartListener is Request.Listener.
	PartListener
	// PartCertificate is Request.Peer.
	PartCertificate
	// PartProtocol is Request.Protocol.
	PartProtocol
)

// Keep says how long an answer may be reused without asking again, and for whom.
// The zero value leaves all that to whoever keeps it.
type Keep struct {
	// TTL is the time an answer may be reused; negative means not at all.
	TTL time.Duration
	// Stale is the time after TTL in which the answer may still serve while the
	// source is unavailable; negative means not at all.
	Stale time.Duration
	// Narrow says that of all parts of the request the answer depends on those in
	// Vary alone, so that it serves requests that differ in others. Without it an
	// answer serves requests that are alike in all that the source looks at.
	Narrow bool
	Vary   Parts
}
