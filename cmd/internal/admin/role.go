package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
)

// Role says what a requester may do. Each role includes those before it.
type Role int

// The roles. The zero value is none of them.
const (
	// Everyone is the role of routes that are open to all, such as a probe.
	Everyone Role = iota + 1
	// Metrics reads /metrics and nothing else.
	Metrics
	// Read sees everything but profiles and the record of changes, and changes nothing.
	Read
	// Operate may do everything.
	Operate
)

// String returns the name of the role.
func (r Role) String() string {
	switch r {
	case Everyone:
		return "everyone"
	case Metrics:
		return "metrics"
	case Read:
		return "read"
	case Operate:
		return "operate"
	}
	return "none"
}

// Tokens are the tokens of the roles Metrics, Read and Operate. A role without a token, or with an
// empty one, is not in use. Tokens do not change once they are in force.
type Tokens map[Role]string

// digest returns the digest of the token of a role. Digests have the same length, so the time of
// a comparison reveals nothing about the length of a token.
func (t Tokens) digest(r Role) [sha256.Size]byte { return sha256.Sum256([]byte(t[r])) }

// role returns the highest role that a token opens, and Everyone for a wrong token.
func (t Tokens) role(given string) Role {
	got, found := sha256.Sum256([]byte(given)), Everyone
	for r := Metrics; r <= Operate; r++ {
		want := t.digest(r)
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 && t[r] != "" {
			found = r
		}
	}
	return found
}

// Requester is who has sent a request.
type Requester struct {
	Role Role
	// Name says with which token the request came: operate, read or metrics, or push for a token
	// service that has signed it. See also By.
	Name string
	// Address is the IP address of the requester.
	Address string

	current func() bool
}

// Current reports whether the token or sign-in of the requester is still in force. Handlers
// whose answer takes long, such as a stream of events, call it from time to time.
func (q Requester) Current() bool { return q.current != nil && q.current() }

type requesterKey struct{}

// RequesterOf returns who has sent the request of a handler of the admin side. Without such a
// request in ctx it returns the zero Requester, who may do nothing.
func RequesterOf(ctx context.Context) Requester {
	q, _ := ctx.Value(requesterKey{}).(Requester)
	return q
}

// with returns r as a request of q.
func (q Requester) with(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), requesterKey{}, q))
}

// remoteAddr returns the IP address of the client, or the zero Addr if it has none.
func remoteAddr(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}
