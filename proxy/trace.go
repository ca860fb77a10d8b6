package proxy

import (
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Trace is a set of hooks that a [Server] calls as things happen. Any may be nil.
// They are called from the goroutine of the connection concerned, many at the
// same time, and must be quick. Nothing they are told holds a secret.
type Trace struct {
	// Accepted: a listener has accepted a connection. Each is followed by exactly
	// one of Refused and Opened.
	Accepted func(listener string)
	// Dropped: a connection was closed as it came because there was no room even
	// to refuse it.
	Dropped func(listener string)
	// AcceptFailed: a listener could not accept, for want of descriptors for
	// example; it tries again after retry.
	AcceptFailed func(listener string, err error, retry time.Duration)
	// Secured: a TLS handshake is done.
	Secured func(Handshake)
	// Refused: a connection ends before it became a session.
	Refused func(Refusal)
	// Opened: a session has begun; the client has its CONNACK.
	Opened func(*Client)
	// Denied: a message or a subscription of a session did not reach the broker,
	// because the topic rules of its grant do not allow it. The goroutine that calls it
	// serves other sessions too, which wait for it, and holds a lock of this one: the
	// hook must not end sessions.
	Denied func(*Client, Denied)
	// Revoked: the Notifier of a [Server.Watch] has reported these revocations, and so
	// many sessions have been told to end. It is called from the Watch.
	Revoked func(all []authz.Revocation, sessions int)
	// Closed: a session has ended and both its connections are closed.
	Closed func(*Client, End)
	// Panicked: a bug has ended one connection or session, or one question about a
	// session. The process goes on.
	Panicked func(value any, stack []byte)
}

// Handshake is a TLS handshake that succeeded.
type Handshake struct {
	// Listener is where the connection came in.
	Listener string
	// Resumed reports whether an earlier session's ticket saved the costly part.
	Resumed bool
	// Duration is the time it took, waiting for the client and for a slot
	// included.
	Duration time.Duration
}

// Refusal is how a connection ended that did not become a session.
type Refusal struct {
	Reason Reason
	// Err says more, for the log.
	Err error
	// Sent reports whether the client was told, and Code what: the return code
	// of its CONNACK, in the numbers of its own protocol level.
	Sent bool
	Code packets.ReasonCode
	// Addr and Listener are where it came from.
	Addr     netip.AddrPort
	Listener string
	// ClientID, Level and Fingerprint are what its CONNECT said; empty if there
	// was none. ClientID is the client's own text, which has to be printed quoted, or
	// the token's fingerprint where that text is the token.
	ClientID    string
	Level       byte
	Fingerprint string
	// Subject is set if the token was good.
	Subject string
	// Duration is the time since it was accepted.
	Duration time.Duration
}

// Version returns the MQTT version as people write it, empty if unknown.
func (r Refusal) Version() string { return versionName(r.Level) }

// Denied is a message, or one topic filter of a SUBSCRIBE, that topic rules do not
// allow.
type Denied struct {
	// Type is PUBLISH or SUBSCRIBE.
	Type packets.Type
	// Topic is the topic name or the filter, in the client's own words: print it
	// quoted. It holds during the call only.
	Topic []byte
	// QoS is that of the message, or that which the subscription asks for.
	QoS byte
	// Retain is the message's.
	Retain bool
}

// End is how a session ended.
type End struct {
	// By is who ended it: client, upstream or proxy.
	By string
	// Err is nil after an orderly close by either side, one of the causes given
	// to [Server.Kick] if the session was cut, else the fault.
	Err error
	// Up and Down are the bytes passed to the broker and to the client after
	// CONNECT and CONNACK.
	Up, Down int64
	// Denied is how often [Trace].Denied was called.
	Denied int64
	// Duration is the time since the connection was accepted.
	Duration time.Duration
}
