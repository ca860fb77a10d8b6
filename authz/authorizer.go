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
// Authorize returns a non-nil Grant and a nil error, or a nil Grant and an error of one of two
// kinds: if errors.Is(err, [ErrDenied]), the denial is a decision and may be remembered;
// everything else, including ctx's own error, means that no decision could be made. The Grant
// is immutable: neither side may change it afterwards.
//
// Authorize may be called from many goroutines at once. It must return when ctx is done, must
// not panic on any input, and must not put a secret into its error.
type Authorizer interface {
	Authorize(ctx context.Context, r Request) (*Grant, error)
}

// Notifier is implemented by an [Authorizer] that notices revocations without being asked, from
// a changed file or a message from its source.
//
// Notify blocks until ctx is done and calls revoked, one call at a time, for every token or
// subject whose sessions must end, once Authorize no longer grants it. It also reports tokens
// that were withdrawn between a Grant and the call of Notify. Notify returns nil when ctx is
// done, and an error if it can no longer watch.
type Notifier interface {
	Notify(ctx context.Context, revoked func(Revocation)) error
}

// The outcomes other than a Grant. Any error that is not ErrDenied counts as ErrUnavailable,
// whether it wraps that or not.
var (
	// ErrDenied is a decision: this device may not connect with this token.
	ErrDenied = errors.New("denied")
	// ErrUnknown is the denial of a source that does not know the token; another
	// source may.
	ErrUnknown = fmt.Errorf("%w: unknown token", ErrDenied)
	// ErrUnavailable means that no decision could be made. It is not a denial.
	ErrUnavailable = errors.New("unavailable")
	// ErrBusy means that the source is unavailable because of too much work, such as a full
	// queue or a service that answers 429, and not because of a fault. It is not an outage: no
	// old answer is used instead.
	ErrBusy = fmt.Errorf("%w: busy", ErrUnavailable)
	// ErrUnsure means that a source does not know yet whether the token is one of its own. A
	// [Chain] still asks the next sources, but then accepts only a Grant from them.
	ErrUnsure = fmt.Errorf("%w: cannot tell yet", ErrUnavailable)
	// ErrUnanswerable means that a source is unavailable for one request while it answers those
	// of other addresses: the fault lies in the request, or in the data that the source has for
	// it.
	ErrUnanswerable = fmt.Errorf("%w for this device, not for others", ErrUnavailable)
	// ErrThrottled means that the caller's address has used up its budget of failures. Like
	// ErrBusy it is not an outage.
	ErrThrottled = fmt.Errorf("%w: too many failures from this address", ErrUnavailable)
)

// Purpose says why an Authorizer is asked.
type Purpose uint8

const (
	// Connect means that a device waits for its CONNACK.
	Connect Purpose = iota
	// Refresh renews an answer that is about to expire; no device waits for it.
	Refresh
	// Recheck asks again about the token of live sessions.
	Recheck
)

// String returns the purpose in the form that is sent to a token service.
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

// Request describes a device that asks to connect.
type Request struct {
	// Token is the access token. It is zero if the device sent none, or if the source that
	// is asked takes pairs only; then there is a Pair.
	Token Token
	// Pair is the user name and the password. It is zero if the device sent none, and for
	// sources that do not take pairs, see [Taker].
	Pair Pair
	// ClientID is the client identifier of the CONNECT, empty if it had none
	// (MQTT 5.0 section 3.1.3.1).
	ClientID string
	// Username is the user name of the CONNECT, or empty if that is the token (MQTT 5.0 section
	// 3.1.3.5).
	Username string
	// Password is the password of the CONNECT, or zero if that is the token (MQTT 5.0 section
	// 3.1.3.6).
	Password Token
	// Addr is the device's address, or the zero value if it is not known.
	Addr netip.AddrPort
	// Listener is the name of the listener that accepted the connection.
	Listener string
	// Peer is the verified client certificate, or nil if there is none.
	Peer *x509.Certificate
	// Protocol is the protocol level: 3, 4 or 5.
	Protocol byte
	// Purpose is why the question is asked.
	Purpose Purpose
	// Known means that the source has granted the same request before. A cache sets
	// it, and a source that cannot answer all requests may use it to prefer known
	// devices; other callers leave it false.
	Known bool
}

// Network returns the network that limits and budgets use for an address: the address itself
// for IPv4, the /64 for IPv6, which is the smallest network that a site gets. An IPv4-mapped
// IPv6 address counts as the IPv4 address. The zero Addr, which stands for an unknown address,
// has the zero Prefix.
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

// Revocation names tokens that are no longer valid. Exactly one of the first three fields is
// set.
type Revocation struct {
	TokenID   string
	Subject   string
	TokenHash [32]byte // SHA-256 of the token
	// Grant, if not nil, says that the token is still valid and grants this from now on, under
	// the same conditions as before. An answer that is remembered must be forgotten. A session
	// that has the old grant may go on with this one instead of ending. TokenHash is set then.
	Grant *Grant
}

// Matches reports whether the revocation names the grant g, which was given for a
// token whose SHA-256 digest is hash.
func (r Revocation) Matches(g *Grant, hash [32]byte) bool {
	switch {
	case r.TokenID != "":
		return r.TokenID == g.TokenID
	case r.Subject != "":
		return r.Subject == g.Subject
	}
	return r.TokenHash != [32]byte{} && r.TokenHash == hash
}

// Canonical returns the revocation with the one field that Matches goes by.
func (r Revocation) Canonical() Revocation {
	switch {
	case r.TokenID != "":
		return Revocation{TokenID: r.TokenID}
	case r.Subject != "":
		return Revocation{Subject: r.Subject}
	}
	return Revocation{TokenHash: r.TokenHash}
}

// Parts is a set of parts of a [Request] besides the token.
type Parts uint8

// The parts that may be in a [Parts]. The device's port is not among them, because it is new
// with every connection: an answer that depended on it could never be reused.
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

// Keep says how long an answer may be reused without asking again, and for which requests. The
// zero value leaves that to the cache.
type Keep struct {
	// TTL is the time an answer may be reused; negative means not at all.
	TTL time.Duration
	// Stale is how long after TTL the answer may still be used while the source is unavailable;
	// negative means not at all.
	Stale time.Duration
	// Narrow means that the answer depends only on the token and the parts in Vary, so it may
	// be reused for requests that differ in other parts. If Narrow is false, the answer may be
	// reused only for requests that have the same values for all parts that the source looks
	// at.
	Narrow bool
	Vary   Parts
}
