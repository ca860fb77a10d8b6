package proxy

import (
	"cmp"
	"errors"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Policy is what a [Server] does with connections. It is immutable once it has
// been given to [Server.SetPolicy].
type Policy struct {
	// Token lists where the token may sit; the first place that is not empty counts.
	// Empty means the user name.
	Token []TokenLocation
	// Authorizer decides about the token. It must be set.
	Authorizer authz.Authorizer
	// Rewrite fills in what the broker is to see; nil adds nothing. An error
	// refuses the client: a [*RefusedError] with its own reason, anything else
	// as [UpstreamUnavailable].
	Rewrite func(*ConnectRequest) error
	// Upstream connects a client to a broker. It must be set; for one broker it is a
	// [DialFunc]. Its errors refuse the client as [UpstreamUnavailable]. What a PROXY
	// protocol header can say about the client is in the context that it is given, see
	// [proxyproto.FromContext].
	Upstream Upstream
	// ConnectTimeout is the time from accept to the last byte of the CONNECT,
	// and again the most that the token's check may take; 0 means 10 s.
	ConnectTimeout time.Duration
	// UpstreamTimeout is the time from the dial to the broker's CONNACK; 0
	// means 5 s.
	UpstreamTimeout time.Duration
	// MaxConnect is the size of the largest CONNECT, in bytes; 0 means 64 KiB.
	MaxConnect int
	// Levels lists the protocol levels that may connect (3, 4, 5); empty means
	// all of them.
	Levels []byte
	// Recheck is how often the Authorizer is asked again about the tokens of live
	// sessions, where the grant itself does not say; 0 or less means never. A denial ends
	// them, an error does not. Of a later policy it counts for the sessions that
	// began while it was not 0, after their next question.
	Recheck time.Duration
	// ClientIDKey is a secret. With it (HMAC-SHA-256) a client id that is the client's
	// token is replaced towards the broker, so that it is the same at every proxy with
	// the same key and the broker's persistent sessions are found again. Without it
	// the server takes a random key of its own.
	ClientIDKey []byte
	// Limits bounds what all clients together may take.
	Limits Limits
	// Overload returns why the process has no room for one more connection, nil if
	// it has; nil means always. New clients are refused as [Busy] with its error,
	// sessions go on. It is asked for every connection and must be quick.
	Overload func() error
}

// Limits bounds connections. A limit of 0 or less is none, unless its comment says
// otherwise.
type Limits struct {
	// Connections is the number of connections in all.
	Connections int
	// PerAddress is the number of connections of one IPv4 address or one IPv6
	// /64. It counts from accept on, or from when the address is known.
	PerAddress int
	// Pending is the number of connections that have not sent a whole CONNECT, or
	// are refused and wait for their client to close. Beyond it the oldest one of
	// the address that has most of them is closed, as [Displaced].
	Pending int
	// Descriptors is the number of file descriptors that connections and sessions
	// may take; it does not change while the server lives. At this limit, and at
	// that on Connections, a newcomer takes the place of a pending connection that
	// is a second old or whose address has more of them, and a client that is about
	// to become a session that of any.
	Descriptors int
	// UpstreamDescriptors is how many of them a connection to the broker takes; 0
	// means 1.
	UpstreamDescriptors int
	// PerSubject is the number of sessions of one subject. A client that takes
	// over its own client id does not count twice.
	PerSubject int
	// RefuseNewest refuses the client that would be one too many for its subject
	// as [Busy]. Without it the oldest session ends with [ErrDisplaced], so that a
	// device whose connection died unnoticed is not locked out by it.
	RefuseNewest bool
	// ConnectRate bounds new connections in all, and AddressRate those of one
	// IPv4 address or one IPv6 /64. Those beyond are refused as [RateExceeded],
	// as far as there is time to refuse them.
	ConnectRate, AddressRate Rate
	// Handshakes is the number of TLS handshakes that may compute at the same
	// time; 0 means one for each processor. None is held while a client is waited
	// for.
	Handshakes int
}

func (p *Policy) connectTimeout() time.Duration  { return cmp.Or(p.ConnectTimeout, 10*time.Second) }
func (p *Policy) upstreamTimeout() time.Duration { return cmp.Or(p.UpstreamTimeout, 5*time.Second) }
func (p *Policy) maxConnect() int                { return cmp.Or(p.MaxConnect, 64<<10) }

func (p *Policy) overload() error {
	if p.Overload == nil {
		return nil
	}
	if err := p.Overload(); err != nil {
		return refuse(Busy, err)
	}
	return nil
}

func (p *Policy) accepts(level byte) bool {
	for _, l := range p.Levels {
		if l == level {
			return true
		}
	}
	return len(p.Levels) == 0
}

func (p *Policy) check() error {
	switch {
	case p.Authorizer == nil:
		return errors.New("policy has no authorizer")
	case p.Upstream == nil:
		return errors.New("policy has no upstream")
	}
	return nil
}
