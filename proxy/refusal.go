package proxy

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Reason is why a connection did not become a session. The set is closed: it is
// safe as a metric label. The reasons of [authz.Denial] are reasons as well.
type Reason string

// The reasons that are not an Authorizer's.
const (
	// ProxyHeader: the connection did not begin with a valid PROXY protocol header,
	// or came from where none is accepted, at a listener that wants one.
	ProxyHeader Reason = "proxy_header"
	// HealthCheck: a load balancer looked whether the listener answers, and that is
	// all.
	HealthCheck Reason = "health_check"
	// HTTPRefused: an HTTP request that opens no WebSocket connection for MQTT, or a
	// frame that carries none. The client was told, in HTTP or by a Close frame.
	HTTPRefused Reason = "websocket"
	// TLSFailed: the TLS handshake failed.
	TLSFailed Reason = "tls"
	// ConnectTimeout: no complete CONNECT in time.
	ConnectTimeout Reason = "connect_timeout"
	// ConnectionLost: the client closed before its CONNECT was complete, or
	// before it could be answered.
	ConnectionLost Reason = "connection_lost"
	// Displaced: the connection was closed before it had sent its CONNECT, to make
	// room for a newer one.
	Displaced Reason = "displaced"
	// NotMQTT: the first packet is not a CONNECT.
	NotMQTT Reason = "not_mqtt"
	// Malformed: the CONNECT breaks a rule of the standard.
	Malformed Reason = "malformed"
	// TooLarge: the CONNECT is larger than the policy allows, or the broker's CONNACK
	// than the client does.
	TooLarge Reason = "too_large"
	// WrongVersion: the protocol level is unknown or not allowed.
	WrongVersion Reason = "protocol_version"
	// NoToken: a client id, but no token.
	NoToken Reason = "no_token"
	// NoIdentity: neither a client id nor a token.
	NoIdentity Reason = "no_identity"
	// MalformedToken: the token cannot be one.
	MalformedToken Reason = "malformed_token"
	// NoClientID: no client id where the standard demands one.
	NoClientID Reason = "no_client_id"
	// ClientIDNotUsable: the client id cannot stand in what the broker is to
	// see.
	ClientIDNotUsable Reason = "client_id_not_usable"
	// IdentityNotUsable: the subject, the user name or the token cannot stand in what
	// the broker is to see.
	IdentityNotUsable Reason = "identity_not_usable"
	// ClientIDInUse: another subject has a live session with this client id.
	ClientIDInUse Reason = "client_id_in_use"
	// WillTopic: the will would go to a topic the client may not publish to.
	WillTopic Reason = "will_topic"
	// SourceUnavailable: nobody could tell whether the token is good.
	SourceUnavailable Reason = "source_unavailable"
	// UpstreamUnavailable: the broker could not be reached or did not answer.
	UpstreamUnavailable Reason = "upstream_unavailable"
	// UpstreamCredentials: the broker refused the credentials that the proxy put
	// in place of the client's. The client did nothing wrong.
	UpstreamCredentials Reason = "upstream_credentials"
	// UpstreamRefused: the broker refused the client; its CONNACK was passed on.
	UpstreamRefused Reason = "upstream_refused"
	// Busy: a limit on connections or on work in progress is reached.
	Busy Reason = "busy"
	// RateExceeded: too many new connections a second, in all or from the
	// client's address.
	RateExceeded Reason = "connect_rate"
	// Throttled: the client's address has used up its budget of failures.
	Throttled Reason = "throttled"
	// Draining: the server is shutting down.
	Draining Reason = "draining"
	// Internal: a bug. It is reported by Trace.Panicked.
	Internal Reason = "internal"
)

// RefusedError refuses a connection with a reason. A [Policy] returns it from
// Rewrite; in a [Refusal] its Err is what stands in the log.
type RefusedError struct {
	Reason Reason
	Err    error
}

func refuse(r Reason, err error) error { return &RefusedError{Reason: r, Err: err} }

// Error returns the reason and what is behind it.
func (e *RefusedError) Error() string {
	if e.Err == nil {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *RefusedError) Unwrap() error { return e.Err }

// row is what the table of refusals says of one reason: the code of the CONNACK for
// levels 3 and 4, and for level 5. 0 is a close without one.
type row struct {
	reason Reason
	v3, v5 packets.ReasonCode
}

// refusals is the table of refusals. Codes 4 and 5 and their kin tell a device to give
// up; whatever is not the device's fault is 3, "come back later".
var refusals = [...]row{
	{ProxyHeader, 0, 0},
	{HealthCheck, 0, 0},
	{HTTPRefused, 0, 0},
	{TLSFailed, 0, 0},
	{ConnectTimeout, 0, 0},
	{ConnectionLost, 0, 0},
	{Displaced, 0, 0},
	{NotMQTT, 0, 0},
	{Malformed, 0, packets.MalformedPacket}, // or what the fault says
	{TooLarge, 0, packets.PacketTooLarge},
	{WrongVersion, packets.RefusedProtocolVersion, packets.UnsupportedProtocolVersion},
	{NoToken, packets.RefusedIdentifier, packets.ClientIDNotValid},
	{NoIdentity, packets.RefusedNotAuthorized, packets.NotAuthorized},
	{MalformedToken, packets.RefusedNotAuthorized, packets.BadUserNameOrPassword},
	{NoClientID, packets.RefusedIdentifier, packets.ClientIDNotValid},
	{ClientIDNotUsable, packets.RefusedIdentifier, packets.ClientIDNotValid},
	{IdentityNotUsable, packets.RefusedNotAuthorized, packets.NotAuthorized},
	{ClientIDInUse, packets.RefusedIdentifier, packets.ClientIDNotValid},
	{WillTopic, packets.RefusedNotAuthorized, packets.NotAuthorized},
	{SourceUnavailable, packets.RefusedServerUnavailable, packets.ServerUnavailable},
	{UpstreamUnavailable, packets.RefusedServerUnavailable, packets.ServerUnavailable},
	{UpstreamCredentials, packets.RefusedServerUnavailable, packets.ServerUnavailable},
	{UpstreamRefused, 0, 0}, // the broker's own CONNACK
	{Busy, packets.RefusedServerUnavailable, packets.ServerBusy},
	{RateExceeded, packets.RefusedServerUnavailable, packets.ConnectionRateExceeded},
	{Throttled, packets.RefusedServerUnavailable, packets.ConnectionRateExceeded},
	{Draining, packets.RefusedServerUnavailable, packets.ServerUnavailable},
	{Internal, packets.RefusedServerUnavailable, packets.ServerUnavailable},

	{Reason(authz.Unknown), packets.RefusedNotAuthorized, packets.BadUserNameOrPassword},
	{Reason(authz.Expired), packets.RefusedNotAuthorized, packets.NotAuthorized},
	{Reason(authz.NotYetValid), packets.RefusedNotAuthorized, packets.NotAuthorized},
	{Reason(authz.Disabled), packets.RefusedNotAuthorized, packets.NotAuthorized},
	{Reason(authz.Revoked), packets.RefusedNotAuthorized, packets.NotAuthorized},
	{Reason(authz.WrongClientID), packets.RefusedNotAuthorized, packets.NotAuthorized},
	{Reason(authz.WrongUsername), packets.RefusedNotAuthorized, packets.NotAuthorized},
	{Reason(authz.WrongAddress), packets.RefusedNotAuthorized, packets.NotAuthorized},
	{Reason(authz.WrongCertificate), packets.RefusedNotAuthorized, packets.NotAuthorized},
	{Reason(authz.NotAuthorized), packets.RefusedNotAuthorized, packets.NotAuthorized},
}

// Reasons returns every reason that there is.
func Reasons() []Reason {
	all := make([]Reason, 0, len(refusals))
	for _, row := range refusals {
		all = append(all, row.reason)
	}
	return all
}

// Codes returns the codes of the CONNACK that a refused client gets: v3 for MQTT 3.1
// and 3.1.1, v5 for 5.0. 0 means that it gets none of the proxy's. A reason that is
// not one of [Reasons] is not known to be the client's fault.
func (r Reason) Codes() (v3, v5 packets.ReasonCode) {
	if row, ok := r.row(); ok {
		return row.v3, row.v5
	}
	return packets.RefusedServerUnavailable, packets.ServerUnavailable
}

func (r Reason) row() (row, bool) {
	for _, row := range refusals {
		if row.reason == r {
			return row, true
		}
	}
	return row{}, false
}

// connectError gives a fault of reading the CONNECT its reason. It sets the
// protocol level where the fault tells it.
func (c *conn) connectError(err error) error {
	var (
		malformed *packets.MalformedError
		tooLarge  *packets.TooLargeError
		level     *packets.ProtocolLevelError
	)
	switch {
	case isFrameError(err):
		return refuse(HTTPRefused, err)
	case errors.As(err, &malformed):
		c.level = malformed.Level
		return refuse(Malformed, err)
	case errors.As(err, &tooLarge):
		c.level = tooLarge.Level
		return refuse(TooLarge, err)
	case errors.As(err, &level):
		// A version newer than all we know most likely understands 5.0's form.
		c.level = 4
		if level.Level > 5 {
			c.level = 5
		}
		return refuse(WrongVersion, err)
	case errors.Is(err, packets.ErrNotConnect):
		return refuse(NotMQTT, err)
	case isTimeout(err):
		return refuse(ConnectTimeout, errors.New("no complete CONNECT in time"))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(ConnectionLost, errors.New("closed by the client before its CONNECT was complete"))
	}
	return refuse(ConnectionLost, err)
}

// authError gives an Authorizer's error its reason. Whatever is not a denial is
// "unavailable", never a no; a denial for a reason of the Authorizer's own is one
// without a reason.
func authError(err error) error {
	var denial *authz.Denial
	switch {
	case errors.As(err, &denial):
		reason := Reason(denial.Reason)
		if _, known := reason.row(); !known {
			reason = Reason(authz.NotAuthorized)
		}
		return refuse(reason, err)
	case errors.Is(err, authz.ErrUnknown):
		return refuse(Reason(authz.Unknown), err)
	case errors.Is(err, authz.ErrDenied):
		return refuse(Reason(authz.NotAuthorized), err)
	case errors.Is(err, authz.ErrThrottled):
		return refuse(Throttled, err)
	case errors.Is(err, authz.ErrBusy):
		return refuse(Busy, err)
	}
	return refuse(SourceUnavailable, err)
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// refuse ends the connection with the CONNACK that the table gives for err and
// reports it.
func (c *conn) refuse(err error) {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		refused = &RefusedError{Reason: Internal, Err: err}
	}
	r := Refusal{
		Reason:   refused.Reason,
		Err:      refused.Err,
		Addr:     c.addr,
		Listener: c.entry.name(),
		Level:    c.level,
		Duration: time.Since(c.accepted),
	}
	if c.in != nil {
		r.Fingerprint = c.token.Fingerprint()
		if c.in.ClientID != "" {
			r.ClientID = c.clientID
		}
	}
	if c.client != nil {
		r.Subject = c.client.Subject()
	}
	r.Code, r.Sent = c.sendRefusal(refused)
	if hook := c.srv.Trace.Refused; hook != nil {
		hook(r)
	}
	c.closeFor(refused.Reason)
	// crypto/tls has told a client whose handshake failed, and so on.
	told := r.Sent || r.Reason == TLSFailed || r.Reason == HTTPRefused || c.ws != nil
	c.goodbye(told && r.Reason != Displaced)
}

// sendRefusal writes the CONNACK for a refusal, if there is one for it.
func (c *conn) sendRefusal(refused *RefusedError) (packets.ReasonCode, bool) {
	if refused.Reason == UpstreamRefused {
		return c.upstreamCode, c.writeConnack(c.upstreamAnswer, lastWords) == nil
	}
	v3, v5 := refused.Reason.Codes()
	code := v3
	if c.level == 5 {
		code = v5
		var malformed *packets.MalformedError
		if refused.Reason == Malformed && errors.As(refused.Err, &malformed) {
			code = malformed.Code
		}
	}
	if code == 0 || c.level == 0 {
		return 0, false
	}
	ack := packets.Connack{Code: code}
	return code, c.writeConnack(ack.Append(nil, c.level), lastWords) == nil
}

// errTooLargeForClient is the error of a CONNACK that the client does not take.
var errTooLargeForClient = errors.New("the CONNACK is larger than the Maximum Packet Size of the client")

// writeConnack sends a CONNACK, as write does. If it is larger than the client has said
// that it takes, the Reason String and the User Properties are left out; nothing is
// sent if that does not help. MQTT 5.0 section 3.1.2.11.4, [MQTT-3.2.2-19],
// [MQTT-3.2.2-20]
func (c *conn) writeConnack(raw []byte, within time.Duration) error {
	if limit := c.packetLimit(); uint64(len(raw)) > limit {
		var ack packets.Connack
		if err := ack.Parse(raw, c.level); err != nil {
			return err
		}
		ack.Properties = ack.Properties.Without(packets.ReasonString, packets.UserProperty)
		if raw = ack.Append(nil, c.level); uint64(len(raw)) > limit {
			return errTooLargeForClient
		}
	}
	return c.write(raw, within)
}

// packetLimit returns the size of the largest packet that the client takes, in bytes.
func (c *conn) packetLimit() uint64 {
	if c.in != nil && c.level == 5 {
		if n, ok := c.in.Properties.MaximumPacketSize(); ok {
			return uint64(n)
		}
	}
	return math.MaxUint64
}

// lastWords is how long a refused client has to take its CONNACK, and again to
// close.
const lastWords = time.Second

// goodbye closes the connection. A client that was told something gets the time
// to read it: closing a socket with unread bytes in it resets the connection, and
// the CONNACK would be lost.
func (c *conn) goodbye(told bool) {
	if told {
		now := time.Now()
		_ = c.raw.SetDeadline(now.Add(lastWords))
		c.srv.admission.linger(c, now)
		if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		}
		c.discardInput()
	}
	// Below TLS: closing a TLS connection would write, and wait up to five
	// seconds for it.
	_ = c.raw.Close()
}

// discardInput throws away what the client has sent beyond its CONNECT, up to a
// bound, until it closes.
func (c *conn) discardInput() {
	_, _ = io.Copy(io.Discard, io.LimitReader(c.raw, 64<<10))
}
