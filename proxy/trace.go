package proxy

import (
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Trace is a set of hooks that a [Server] calls when something happens. Any of them may be
// nil. They are called from the goroutine of the connection, so many calls run at the same
// time, and must be quick. Nothing that they are passed contains a token or a password.
type Trace struct {
	// Accepted: a listener has accepted a connection. Each is followed by exactly
	// one of Refused and Opened.
	Accepted func(listener string)
	// Dropped: a connection was closed at once because there was no room even to refuse
	// it.
	Dropped func(listener string)
	// AcceptFailed: a listener could not accept a connection, for example because there
	// are no descriptors left. It tries again after retry.
	AcceptFailed func(listener string, err error, retry time.Duration)
	// Secured: a TLS handshake has succeeded.
	Secured func(Handshake)
	// Refused: a connection ends before it has become a session.
	Refused func(Refusal)
	// Opened: a session has begun, and its client has been sent the CONNACK.
	Opened func(*Client)
	// Denied: a message or a subscription of a session did not reach the broker, or a
	// message of the broker did not reach the client, because topic rules, the topic map or
	// the limits of the session do not allow it. The goroutine that calls it serves other
	// sessions too, which wait for it, and holds a lock of this one: the hook must not end
	// sessions.
	Denied func(*Client, Denied)
	// Revoked: a Notifier that the server watches has reported these revocations, and
	// that many sessions are ended for it.
	Revoked func(all []authz.Revocation, sessions int)
	// Renewed: a client has renewed its token by AUTH. The Client has the new one.
	Renewed func(*Client)
	// Closed: a session has ended and both its connections are closed. The goroutine that calls it
	// serves other sessions, too, which wait for it.
	Closed func(*Client, End)
	// Panicked: a bug has ended one connection, one session, one recheck, or one call of a
	// Notifier or of a hook. The process goes on.
	Panicked func(value any, stack []byte)
}

// Handshake is a TLS handshake that succeeded.
type Handshake struct {
	// Listener is the name of the listener.
	Listener string
	// Resumed reports whether the handshake resumed an earlier TLS session, which saves
	// most of the work.
	Resumed bool
	// Duration is the time that it took, including the time of waiting for the client and
	// for other handshakes.
	Duration time.Duration
}

// Refusal is how a connection ended that did not become a session.
type Refusal struct {
	Reason Reason
	// Err has the details, for the log. It may be nil.
	Err error
	// Sent reports whether the client was sent a CONNACK, and Code is its code in the
	// numbers of the client's protocol level.
	Sent bool
	Code packets.ReasonCode
	// Addr is the client's address, and Listener the name of the listener.
	Addr     netip.AddrPort
	Listener string
	// ClientID, Level and the Fingerprint of the token are those of the CONNECT, and empty
	// if there was none. ClientID is the client's own text, which has to be printed
	// quoted, or a fingerprint if that text is the token or the password.
	ClientID    string
	Level       byte
	Fingerprint string
	// Subject is the device that the token belongs to, whether or not the token is good, if it is
	// known. For a wrong password it is only the device that the client claims to be.
	Subject string
	// Duration is the time since the connection was accepted.
	Duration time.Duration
}

// Version returns the MQTT version: 3.1, 3.1.1 or 5.0, empty if it is not known.
func (r Refusal) Version() string { return versionName(r.Level) }

// Denied is a message, or one topic filter of a SUBSCRIBE, that topic rules, the topic map or
// the limits of the session do not allow.
type Denied struct {
	// Type is PUBLISH or SUBSCRIBE.
	Type packets.Type
	// Down says that the message was the broker's, for the client.
	Down bool
	// Topic is the topic name or the topic filter. It is empty for a message with a topic
	// alias and for a SUBSCRIBE if they are over a limit in MQTT 5.0. Otherwise it is the
	// client's own text, which has to be printed quoted, and is valid during the call only.
	Topic []byte
	// QoS is that of the message, or the maximum that the subscription asks for.
	QoS byte
	// Retain is the flag of the message.
	Retain bool
	// Reason is the reason as a text for people.
	Reason string
}

// End is how a session ended.
type End struct {
	// By is who ended it: client, upstream or proxy.
	By string
	// Err is nil after an orderly close by either side, and the error that was passed to
	// [Server.Kick] if the session was cut. Otherwise it is what went wrong.
	Err error
	// Up and Down are the bytes passed to the broker and to the client after
	// CONNECT and CONNACK.
	Up, Down int64
	// Denied is how often [Trace].Denied was called.
	Denied int64
	// Duration is the time since the connection was accepted.
	Duration time.Duration
}
