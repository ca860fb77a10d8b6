package proxy

import (
	"errors"
	"log/slog"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// The errors with which [Server.Kick] ends a session, and which [End] has afterwards. Any other
// error has the effect of ErrKicked. See [Causes] for what the client and the broker get.
var (
	ErrRevoked = errors.New("revoked")
	ErrExpired = errors.New("expired")
	ErrKicked  = errors.New("kicked")
	// ErrRightsChanged ends a session whose topic rules, topic map or limits have changed in a
	// way that it cannot follow.
	ErrRightsChanged = errors.New("rights have changed")
	// ErrWillWithdrawn is ErrRightsChanged if the client's will is not known to be one that it
	// still may have.
	ErrWillWithdrawn = errors.New("rights have changed, and with them the will")
	// ErrRenewalDenied ends a session whose client has sent a token in AUTH that it may not use.
	ErrRenewalDenied = errors.New("the new token is denied")
	// ErrRenewalFailed ends a session whose client has sent a token in AUTH about which no source
	// could decide.
	ErrRenewalFailed = errors.New("nothing could decide about the new token")
	ErrDisplaced     = errors.New("displaced by a newer session")
	ErrDraining      = errors.New("draining")
	// ErrBrokerDrained ends a session whose broker is taken out of use.
	ErrBrokerDrained = errors.New("the broker is taken out of use")
	// ErrUpstreamLost ends a session before the session itself notices that its broker no
	// longer answers.
	ErrUpstreamLost = errors.New("the broker no longer answers")
	// errClosed ends a session without a packet for either side.
	errClosed = errors.New("server closed")
)

// Cause is why a session ended. The set is closed, see [Causes], so a Cause is safe as a metric
// label.
type Cause string

// The causes that have no error of their own.
const (
	// CauseClosed means that the client or the broker ended the session in order.
	CauseClosed Cause = "closed"
	// CauseFault means that a connection failed, or that a side broke a rule of MQTT.
	CauseFault Cause = "fault"
	// CauseCut means that the proxy closed both connections without a packet.
	CauseCut Cause = "cut"
)

// CauseInfo is everything that is known of a [Cause].
type CauseInfo struct {
	Cause Cause
	// By has the sides that end a session for this cause, as in [End].
	By []string
	// Err is the error with which [Server.Kick] ends a session for this cause. It is nil if
	// Kick cannot do that.
	Err error
	// Code is the code of the DISCONNECT for MQTT 5.0. Older versions have no DISCONNECT from
	// the server (MQTT 5.0 section 3.14). 0 means that there is none.
	Code packets.ReasonCode
	// Instead is what the client gets where Code is 0; empty means nothing.
	Instead string
	// Will says what becomes of the client's will.
	Will string
	// Level is how severe the end is for the operator's log.
	Level slog.Level
	// Meaning describes the situation to an operator, in one line.
	Meaning string

	closeCode  int    // of the Close frame, for WebSocket
	refused    Reason // if the session is cut before its relay has started
	disconnect bool   // the broker gets a DISCONNECT, so that it does not publish the will
	flush      bool   // the client first gets what the broker still has for it
}

var (
	byProxy = []string{"proxy"}
	byPeers = []string{"client", "upstream"}
)

// causes is the table of the ends of sessions.
var causes = []CauseInfo{
	{Cause: "revoked", By: byProxy, Err: ErrRevoked, Code: packets.AdministrativeAction, Will: "not published", disconnect: true,
		closeCode: websocket.PolicyViolation, refused: Reason(authz.Revoked),
		Meaning: "the token was revoked, disabled or replaced"},
	{Cause: "expired", By: byProxy, Err: ErrExpired, Code: packets.NotAuthorized, Will: "published",
		closeCode: websocket.PolicyViolation, refused: Reason(authz.Expired),
		Meaning: "the token has expired"},
	{Cause: "renewal_denied", By: byProxy, Err: ErrRenewalDenied, Code: packets.NotAuthorized, Will: "published",
		closeCode: websocket.PolicyViolation, refused: Reason(authz.NotAuthorized),
		Meaning: "the new token in an AUTH is denied, or belongs to another device"},
	{Cause: "renewal_failed", By: byProxy, Err: ErrRenewalFailed, Code: packets.ServerBusy, Will: "published",
		closeCode: websocket.PolicyViolation, refused: SourceUnavailable, Level: slog.LevelWarn,
		Meaning: "no source could decide about the new token in an AUTH, or the address has used up its budget of failures"},
	{Cause: "kicked", By: byProxy, Err: ErrKicked, Code: packets.AdministrativeAction, Will: "published",
		closeCode: websocket.PolicyViolation, refused: Busy,
		Meaning: "an operator ended the session"},
	{Cause: "rights_changed", By: byProxy, Err: ErrRightsChanged, Code: packets.AdministrativeAction, Will: "published",
		closeCode: websocket.PolicyViolation, refused: Busy,
		Meaning: "topic rules, topics or limits have changed, and the device has subscriptions that the new ones do not allow, or that the proxy does not know; or the device has become a gateway or a reader, or is none any more"},
	{Cause: "will_withdrawn", By: byProxy, Err: ErrWillWithdrawn, Code: packets.AdministrativeAction, Will: "not published", disconnect: true,
		closeCode: websocket.PolicyViolation, refused: Busy,
		Meaning: "the same, and the device may no longer have its will, or the proxy did not read its packets until then"},
	{Cause: "displaced", By: byProxy, Err: ErrDisplaced, Code: packets.SessionTakenOver, Will: "published",
		closeCode: websocket.PolicyViolation, refused: Busy,
		Meaning: "a newer session of the same subject took its place"},
	{Cause: "draining", By: byProxy, Err: ErrDraining, Code: packets.ServerShuttingDown, Will: "published", flush: true,
		closeCode: websocket.GoingAway, refused: Draining,
		Meaning: "the proxy shuts down; what the broker still has for the client is delivered first"},
	{Cause: "broker_drained", By: byProxy, Err: ErrBrokerDrained, Code: packets.ServerShuttingDown, Will: "published", flush: true,
		closeCode: websocket.GoingAway, refused: Busy,
		Meaning: "an operator takes the broker out of use; what it still has for the client is delivered first"},
	{Cause: "upstream_lost", By: byProxy, Err: ErrUpstreamLost, Code: packets.ServerShuttingDown, Will: "published if the broker lives",
		closeCode: websocket.GoingAway, refused: UpstreamUnavailable,
		Meaning: "the health check of its broker fails"},
	{Cause: CauseCut, By: byProxy, Err: errClosed, Will: "published",
		closeCode: websocket.GoingAway, refused: Draining,
		Meaning: "the time to shut down was over, or a bug ended the session"},
	{Cause: CauseFault, By: byPeers, Instead: "0x81, 0x82 for a packet", Will: "published",
		Meaning: "a connection failed or its receiver stopped reading, or the device sent a malformed packet or a second CONNECT; whole packets before it are passed on"},
	{Cause: CauseClosed, By: byPeers, Instead: "what the broker sends", Will: "as the broker decides",
		Meaning: "the device or the broker ended the session; whatever that side sends after a DISCONNECT is ignored"},
}

// Causes returns what is known of every cause, in the order of a manual.
func Causes() []CauseInfo { return slices.Clone(causes) }

// Info returns what is known of c, and only c itself if it is not one of [Causes].
func (c Cause) Info() CauseInfo {
	for _, info := range causes {
		if info.Cause == c {
			return info
		}
	}
	return CauseInfo{Cause: c}
}

// Cause returns why the session ended.
func (e End) Cause() Cause {
	switch {
	case e.Err == nil:
		return CauseClosed
	case e.By != relay.NoSide.String():
		return CauseFault
	case errors.Is(e.Err, relay.ErrPanic):
		return CauseCut
	}
	return cutInfo(e.Err).Cause
}

// cutInfo returns the row by which a session is cut for err.
func cutInfo(err error) CauseInfo {
	for _, info := range causes {
		if info.Err != nil && errors.Is(err, info.Err) {
			return info
		}
	}
	return cutInfo(ErrKicked)
}

// closeNotice returns how the relay of a session of the given protocol level ends for cause. The
// three bytes of the DISCONNECT are within every client's Maximum Packet Size, because the CONNACK
// that the client has received takes five.
func closeNotice(cause error, level byte) relay.CloseNotice {
	info := cutInfo(cause)
	notice := relay.CloseNotice{Err: cause, Flush: info.flush}
	if info.disconnect {
		notice.Upstream = (&packets.Disconnect{}).Append(nil, level)
	}
	if info.Code != 0 && level == 5 {
		notice.Client = (&packets.Disconnect{Code: info.Code}).Append(nil, level)
	}
	return notice
}

// denialCause returns the error for a session whose token an Authorizer now denies with err.
func denialCause(err error) error {
	var d *authz.Denial
	if errors.As(err, &d) && d.Reason == authz.Expired {
		return ErrExpired
	}
	return ErrRevoked
}
