package proxy

import (
	"cmp"
	"errors"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
)

// Policy is what a [Server] does with connections. It must not be changed after it was
// passed to [Server.SetPolicy].
type Policy struct {
	// Token lists where the token may be; the first location that is not empty counts. An
	// empty list means the user name.
	Token []TokenLocation
	// Authorizer decides about the token. It must be set. If it is an [authz.Taker] that
	// takes pairs, it is also given the user name and the password, and a client needs no
	// token if it has these.
	Authorizer authz.Authorizer
	// Rewrite fills in what the broker is sent; nil adds nothing. An error refuses the
	// client: a [*RefusedError] with its own reason, any other error as
	// [UpstreamUnavailable].
	Rewrite func(*ConnectRequest) error
	// Upstream connects a client to a broker. It must be set; for one broker it is a
	// [DialFunc]. Its errors refuse the client as [UpstreamUnavailable]. What a PROXY
	// protocol header can say about the client is in the context that it is given, see
	// [proxyproto.FromContext].
	Upstream Upstream
	// ConnectTimeout is the time from accept to the last byte of the CONNECT, and also
	// the most that the check of the token may take after it; 0 means 10 s.
	ConnectTimeout time.Duration
	// UpstreamTimeout is the time from the dial to the broker's CONNACK; 0 means 5 s.
	UpstreamTimeout time.Duration
	// MaxConnect is the size in bytes of the largest CONNECT; 0 means 64 KiB.
	MaxConnect int
	// Levels lists the protocol levels that may connect (3, 4, 5); an empty list means
	// all of them.
	Levels []byte
	// Recheck is how often the Authorizer is asked again about the tokens of live
	// sessions, unless their grant has an interval of its own; 0 or less means never. A
	// denial ends the session, any other error does not. A later policy with another
	// interval applies to the sessions that are rechecked already, from their next recheck
	// on.
	Recheck time.Duration
	// ClientIDKey is the secret key (of HMAC-SHA-256) with which a client id that is the
	// client's token is replaced towards the broker. Proxies with the same key replace it
	// in the same way, so that persistent sessions are found again. Without it the server
	// makes a random key.
	ClientIDKey []byte
	// ACL are the topic rules of sessions whose grant has none. Nil leaves topics to the
	// broker.
	ACL *authz.ACL
	// Topics maps the topics that devices use to those of the broker, and back. Nil maps
	// none. Rules are about the topics that devices use.
	Topics *topicmap.Map
	// SessionLimits bound what each session may do. Those of its grant take precedence.
	SessionLimits authz.Limits
	// Limits bounds what clients may take.
	Limits Limits
	// Overload, if not nil, returns an error if the process has no room for one more
	// connection. New clients are then refused as [Busy], while sessions continue. It is
	// called for every connection and must be quick.
	Overload func() error
}

// Limits bounds connections. A value of 0 or less sets no limit, unless the field's comment
// says otherwise.
type Limits struct {
	// Connections is the number of connections in all.
	Connections int
	// PerAddress is the number of connections of one IPv4 address or one IPv6 /64. A
	// connection counts as soon as its address is known.
	PerAddress int
	// Pending is the number of connections that have not sent a whole CONNECT, or that
	// are refused and wait for their client to close. If there are more, the oldest one
	// of the address that has most of them is closed, as [Displaced].
	Pending int
	// Descriptors is the number of file descriptors that connections and sessions may
	// take. It must be the same in all policies of a server. At this limit, and at the
	// limit Connections, the server closes a pending connection to make room for a new
	// one, if the pending one is at least a second old or its address has more pending
	// connections. For a client whose token is good it closes any pending connection.
	Descriptors int
	// UpstreamDescriptors is how many descriptors a connection to the broker takes; 0 means 1.
	UpstreamDescriptors int
	// PerSubject is the number of sessions of one subject, unless the grant of the newest
	// says otherwise. A client that takes over its own client id does not count twice.
	PerSubject int
	// RefuseNewest refuses a client beyond PerSubject as [Busy]. Without it the oldest
	// session of the subject ends with [ErrDisplaced], so that a device whose connection
	// has died unnoticed is not locked out by it.
	RefuseNewest bool
	// ConnectRate bounds new connections in all, and AddressRate those of one IPv4
	// address or one IPv6 /64. Connections beyond it are refused as [RateExceeded]; if
	// there are too many to refuse, they are closed.
	ConnectRate, AddressRate Rate
	// Handshakes is the number of TLS handshakes that may compute at the same time; 0
	// means one for each processor. A handshake that waits for its client does not count.
	Handshakes int
}

func (p *Policy) connectTimeout() time.Duration  { return cmp.Or(p.ConnectTimeout, 10*time.Second) }
func (p *Policy) upstreamTimeout() time.Duration { return cmp.Or(p.UpstreamTimeout, 5*time.Second) }
func (p *Policy) maxConnect() int                { return cmp.Or(p.MaxConnect, 64<<10) }

// overload returns the refusal for a new connection, or nil.
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
