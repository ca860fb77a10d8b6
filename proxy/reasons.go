package proxy

import (
	"log/slog"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Reason is why a connection did not become a session. The set is closed, see [Reasons],
// so a Reason is safe as a metric label. The reasons of [authz.Denial] are reasons as
// well.
type Reason string

// The reasons that are not an Authorizer's.
const (
	// ProxyHeader: at a listener that requires a PROXY protocol header, the connection
	// did not begin with a valid one or came from an address that is not trusted.
	ProxyHeader Reason = "proxy_header"
	// HealthCheck: a load balancer only checked whether the listener answers.
	HealthCheck Reason = "health_check"
	// HTTPRefused: an HTTP request that opens no WebSocket connection for MQTT, or a
	// frame that carries no MQTT. The client got an HTTP status or a Close frame.
	HTTPRefused Reason = "websocket"
	// TLSFailed: the TLS handshake failed.
	TLSFailed Reason = "tls"
	// ConnectTimeout: there was no complete CONNECT in time.
	ConnectTimeout Reason = "connect_timeout"
	// ConnectionLost: the client closed before its CONNECT was complete, or before it
	// could be answered.
	ConnectionLost Reason = "connection_lost"
	// Displaced: the connection was closed before it had sent its CONNECT, to make room
	// for a newer one.
	Displaced Reason = "displaced"
	// NotMQTT: the first packet is not a CONNECT.
	NotMQTT Reason = "not_mqtt"
	// Malformed: the CONNECT breaks a rule of the standard.
	Malformed Reason = "malformed"
	// TooLarge: the CONNECT is larger than the policy allows, or the broker's CONNACK is
	// larger than the client allows.
	TooLarge Reason = "too_large"
	// WrongVersion: the protocol level is unknown or not allowed.
	WrongVersion Reason = "protocol_version"
	// NoToken: the CONNECT has a client id, but no token.
	NoToken Reason = "no_token"
	// NoIdentity: the CONNECT has neither a client id nor a token.
	NoIdentity Reason = "no_identity"
	// WrongAuthMethod: the CONNECT asks for enhanced authentication without the token in its
	// first packet.
	WrongAuthMethod Reason = "auth_method"
	// MalformedToken: what the CONNECT has in place of a token cannot be one.
	MalformedToken Reason = "malformed_token"
	// NoClientID: the CONNECT has no client id where the standard requires one.
	NoClientID Reason = "no_client_id"
	// ClientIDNotUsable: the client id cannot be used in what the broker would be sent.
	ClientIDNotUsable Reason = "client_id_not_usable"
	// IdentityNotUsable: the subject, the user name or the token cannot be used in what
	// the broker would be sent.
	IdentityNotUsable Reason = "identity_not_usable"
	// ClientIDInUse: another subject has a live session with this client id.
	ClientIDInUse Reason = "client_id_in_use"
	// TopicNotUsable: the subject or an attribute of the token cannot be a level of the
	// topics that the map gives to the client.
	TopicNotUsable Reason = "topic_not_usable"
	// SubjectNotUsable: the broker makes topics with the subject in them, in which it cannot
	// be a level. [Policy.Rewrite] refuses for it.
	SubjectNotUsable Reason = "subject_not_usable"
	// WillTopic: the will's topic is one that the client may not publish to.
	WillTopic Reason = "will_topic"
	// WillQoS, WillRetain and WillTooLarge: the will is over a limit of the session.
	WillQoS      Reason = "will_qos"
	WillRetain   Reason = "will_retain"
	WillTooLarge Reason = "will_too_large"
	// SourceUnavailable: no token source could decide whether the token is good.
	SourceUnavailable Reason = "source_unavailable"
	// UpstreamUnavailable: the broker could not be reached or did not answer.
	UpstreamUnavailable Reason = "upstream_unavailable"
	// UpstreamCredentials: the broker refused the credentials that the proxy put in place
	// of the client's.
	UpstreamCredentials Reason = "upstream_credentials"
	// UpstreamRefused: the broker refused the client, and its CONNACK was passed on.
	UpstreamRefused Reason = "upstream_refused"
	// Busy: a limit on connections or on work in progress is reached.
	Busy Reason = "busy"
	// RateExceeded: there were too many new connections a second, in all or from the
	// client's address.
	RateExceeded Reason = "connect_rate"
	// Throttled: the client's address has used up its budget of failures.
	Throttled Reason = "throttled"
	// Draining: the server is shutting down.
	Draining Reason = "draining"
	// Internal: a bug. Trace.Panicked reports it.
	Internal Reason = "internal"
)

// Fault says where the cause of a refusal lies.
type Fault string

// The faults. Only [FaultClient] allows a code that makes a client give up: every other fault can
// be repaired without a change of the client, which should connect again then.
const (
	FaultNone   Fault = "none"   // the connection asked for nothing
	FaultClient Fault = "client" // what the client sent, or did not send in time
	FaultSource Fault = "source" // the token source
	FaultBroker Fault = "broker"
	FaultLimit  Fault = "limit" // a limit of the proxy, often because of other clients
	FaultProxy  Fault = "proxy" // the proxy or its configuration
)

// ReasonInfo is everything that is known of a [Reason].
type ReasonInfo struct {
	Reason Reason
	// V3 and V5 are the code of the CONNACK for MQTT 3.1 and 3.1.1, and for 5.0. 0 means
	// that the server closes the connection without a CONNACK of its own.
	V3, V5 packets.ReasonCode
	// Instead is what the client gets where V3 and V5 are 0; empty means nothing.
	Instead string
	Fault   Fault
	// Level is how severe the refusal is for the operator's log.
	Level slog.Level
	// Meaning describes the situation to an operator, in one line.
	Meaning string
}

// reasons is the table of refusals. Codes such as 4 and 5 make a device give up, so
// everything that is not the client's fault has 3, "server unavailable", or its relatives
// of MQTT 5.0, after which a device comes back.
var reasons = []ReasonInfo{
	{Reason(authz.Unknown), packets.RefusedNotAuthorized, packets.BadUserNameOrPassword, "", FaultClient, slog.LevelInfo,
		"the token is unknown or wrong"},
	{Reason(authz.WrongPassword), packets.RefusedNotAuthorized, packets.BadUserNameOrPassword, "", FaultClient, slog.LevelInfo,
		"the user name is known, but the password is wrong"},
	{MalformedToken, packets.RefusedNotAuthorized, packets.BadUserNameOrPassword, "", FaultClient, slog.LevelInfo,
		"the token is empty, there is more than one, or it is a certificate's that was sent as text"},
	{Reason(authz.Expired), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token is known, but has expired"},
	{Reason(authz.NotYetValid), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token is known, but not valid yet"},
	{Reason(authz.Disabled), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token is known, but disabled"},
	{Reason(authz.Revoked), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token or the certificate was withdrawn"},
	{Reason(authz.WrongClientID), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token is bound to another client id"},
	{Reason(authz.WrongUsername), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token is bound to another user name"},
	{Reason(authz.WrongAddress), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token is bound to another address"},
	{Reason(authz.WrongCertificate), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token is bound to another client certificate"},
	{Reason(authz.NotAuthorized), packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the token source refused and gave no other reason"},
	{NoToken, packets.RefusedIdentifier, packets.ClientIDNotValid, "", FaultClient, slog.LevelInfo,
		"there is a client id, but no token"},
	{NoIdentity, packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"there is neither a client id nor a token"},
	{WrongAuthMethod, packets.RefusedNotAuthorized, packets.BadAuthenticationMethod, "", FaultClient, slog.LevelInfo,
		"there is an authentication method, but no authentication data and no token elsewhere"},
	{NoClientID, packets.RefusedIdentifier, packets.ClientIDNotValid, "", FaultClient, slog.LevelInfo,
		"there is no client id: in 3.1 always, in 3.1.1 without a clean session, in 5.0 never"},
	{ClientIDInUse, packets.RefusedIdentifier, packets.ClientIDNotValid, "", FaultClient, slog.LevelInfo,
		"another subject has a live session with this client id"},
	{ClientIDNotUsable, packets.RefusedIdentifier, packets.ClientIDNotValid, "", FaultClient, slog.LevelInfo,
		"the client id cannot be used in the client id for the broker or in the topic rules of the session"},
	{IdentityNotUsable, packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the subject, the user name or the token cannot be used in what is sent to the broker"},
	{TopicNotUsable, packets.RefusedIdentifier, packets.ClientIDNotValid, "", FaultClient, slog.LevelWarn,
		"the subject, or an attribute, cannot be a level of a topic in the topic map"},
	{SubjectNotUsable, packets.RefusedIdentifier, packets.ClientIDNotValid, "", FaultClient, slog.LevelWarn,
		"the subject cannot be a level of the topics that the broker has for the client"},
	{WillTopic, packets.RefusedNotAuthorized, packets.NotAuthorized, "", FaultClient, slog.LevelInfo,
		"the client may not publish to the topic of its will"},
	{WillQoS, packets.RefusedNotAuthorized, packets.QoSNotSupported, "", FaultClient, slog.LevelInfo,
		"the QoS of the will is higher than the limit `max_qos` of the session"},
	{WillRetain, packets.RefusedNotAuthorized, packets.RetainNotSupported, "", FaultClient, slog.LevelInfo,
		"the will is to be retained, which the limit `retain` of the session forbids"},
	{WillTooLarge, packets.RefusedNotAuthorized, packets.PacketTooLarge, "", FaultClient, slog.LevelInfo,
		"the message of the will is larger than the limit `max_packet` of the session"},
	{SourceUnavailable, packets.RefusedServerUnavailable, packets.ServerUnavailable, "", FaultSource, slog.LevelWarn,
		"no source can decide about the token, or the grant lacks what the broker is to see"},
	{UpstreamUnavailable, packets.RefusedServerUnavailable, packets.ServerUnavailable, "", FaultBroker, slog.LevelWarn,
		"the broker is unreachable, silent, or does not speak MQTT"},
	{UpstreamCredentials, packets.RefusedServerUnavailable, packets.ServerUnavailable, "", FaultProxy, slog.LevelError,
		"the broker refuses the proxy's own credentials (4, 5 / 0x86, 0x87) and has not accepted them within a minute"},
	{UpstreamRefused, 0, 0, "the broker's code", FaultClient, slog.LevelInfo,
		"the broker refuses the client for any other reason; the code is in the numbers of the client's version"},
	{Busy, packets.RefusedServerUnavailable, packets.ServerBusy, "", FaultLimit, slog.LevelWarn,
		"a limit on connections, sessions or descriptors is reached, memory is nearly used up, or a token source has too much work"},
	{RateExceeded, packets.RefusedServerUnavailable, packets.ConnectionRateExceeded, "", FaultLimit, slog.LevelInfo,
		"too many new connections a second, in all or from this address"},
	{Throttled, packets.RefusedServerUnavailable, packets.ConnectionRateExceeded, "", FaultLimit, slog.LevelInfo,
		"too many failures from this address"},
	{Draining, packets.RefusedServerUnavailable, packets.ServerUnavailable, "", FaultProxy, slog.LevelInfo,
		"the proxy is shutting down"},
	{Internal, packets.RefusedServerUnavailable, packets.ServerUnavailable, "", FaultProxy, slog.LevelError,
		"a bug in the proxy"},
	{WrongVersion, packets.RefusedProtocolVersion, packets.UnsupportedProtocolVersion, "", FaultClient, slog.LevelInfo,
		"the protocol version is unknown or not allowed"},
	{Malformed, 0, packets.MalformedPacket, "", FaultClient, slog.LevelInfo,
		"the CONNECT breaks the standard; 0x82 where that is a protocol error"},
	{TooLarge, 0, packets.PacketTooLarge, "", FaultClient, slog.LevelInfo,
		"the CONNECT is larger than allowed, or the CONNACK is larger than a 5.0 client takes"},
	{Displaced, 0, 0, "", FaultLimit, slog.LevelInfo,
		"closed before its CONNECT to make room for a newer connection"},
	{NotMQTT, 0, 0, "", FaultClient, slog.LevelInfo,
		"the first packet is not a CONNECT"},
	{TLSFailed, 0, 0, "", FaultClient, slog.LevelInfo,
		"the TLS handshake failed"},
	{ConnectTimeout, 0, 0, "", FaultClient, slog.LevelInfo,
		"there was no complete CONNECT in time"},
	{ConnectionLost, 0, 0, "", FaultClient, slog.LevelInfo,
		"the client closed the connection before it could be answered"},
	{ProxyHeader, 0, 0, "", FaultClient, slog.LevelInfo,
		"no valid PROXY protocol header where one is required, or not from a trusted network"},
	{HTTPRefused, 0, 0, "HTTP status or Close frame", FaultClient, slog.LevelInfo,
		"an HTTP request that opens no WebSocket connection for MQTT, or a frame that carries no MQTT"},
	{HealthCheck, 0, 0, "", FaultNone, slog.LevelDebug,
		"a load balancer only checked whether the listener answers"},
}

// Reasons returns what is known of every reason, in the order of a manual.
func Reasons() []ReasonInfo { return slices.Clone(reasons) }

// Info returns what is known of r. A reason that is not one of [Reasons] is not known to
// be the client's fault, and a client that gets it has to come back.
func (r Reason) Info() ReasonInfo {
	if info, ok := r.info(); ok {
		return info
	}
	return ReasonInfo{
		Reason: r, V3: packets.RefusedServerUnavailable, V5: packets.ServerUnavailable,
		Fault: FaultProxy, Level: slog.LevelError, Meaning: "not a reason of this version",
	}
}

func (r Reason) info() (ReasonInfo, bool) {
	for i := range reasons {
		if reasons[i].Reason == r {
			return reasons[i], true
		}
	}
	return ReasonInfo{}, false
}
