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

// RefusedError is an error that refuses a connection for a reason. Policy.Rewrite may return
// one. Its Err becomes that of the [Refusal].
type RefusedError struct {
	Reason Reason
	Err    error
}

// refuse returns the error that refuses a connection for r. err has the details for the log.
func refuse(r Reason, err error) error { return &RefusedError{Reason: r, Err: err} }

// Error returns the reason, and Err if there is one.
func (e *RefusedError) Error() string {
	if e.Err == nil {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *RefusedError) Unwrap() error { return e.Err }

// connectError returns the refusal for an error of reading the CONNECT. It sets the protocol
// level if the error has it.
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
		c.login.level = malformed.Level
		return refuse(Malformed, err)
	case errors.As(err, &tooLarge):
		c.login.level = tooLarge.Level
		return refuse(TooLarge, err)
	case errors.As(err, &level):
		// A client of a version after 5.0 most likely understands a CONNACK of 5.0.
		c.login.level = 4
		if level.Level > 5 {
			c.login.level = 5
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

// authError returns the refusal for an Authorizer's error.
func authError(err error) error { return refuse(ReasonOf(err), err) }

// ReasonOf returns the reason for which a client is refused after an error of an
// [authz.Authorizer], or of [authz.Grant.Check]. Every error that is not a denial means that there
// was no decision, and must not make a device give up. A denial for a reason that is not in the
// table counts as NotAuthorized.
func ReasonOf(err error) Reason {
	var denial *authz.Denial
	switch {
	case errors.As(err, &denial):
		if _, known := Reason(denial.Reason).info(); known {
			return Reason(denial.Reason)
		}
		return Reason(authz.NotAuthorized)
	case errors.Is(err, authz.ErrUnknown):
		return Reason(authz.Unknown)
	case errors.Is(err, authz.ErrDenied):
		return Reason(authz.NotAuthorized)
	case errors.Is(err, authz.ErrThrottled):
		return Throttled
	case errors.Is(err, authz.ErrBusy):
		return Busy
	}
	return SourceUnavailable
}

// isTimeout reports whether a deadline has passed.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// sendRefusal refuses the connection for err: it sends the CONNACK of the table of
// reasons, reports the refusal, and closes the connection.
func (c *conn) sendRefusal(err error) {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		refused = &RefusedError{Reason: Internal, Err: err}
	}
	r := c.describeRefusal(refused)
	r.Code, r.Sent = c.sendRefusalCode(refused)
	if hook := c.srv.Trace.Refused; hook != nil {
		hook(r)
	}
	c.arrival.setCloseCode(refused.Reason)
	// A client whose TLS handshake failed, for example, has got an alert.
	answered := r.Sent || r.Reason == TLSFailed || r.Reason == HTTPRefused || c.arrival.ws != nil
	c.closeAfterRefusal(answered && r.Reason != Displaced)
}

// describeRefusal returns what is known of a connection that is refused.
func (c *conn) describeRefusal(refused *RefusedError) Refusal {
	r := Refusal{
		Reason:   refused.Reason,
		Err:      refused.Err,
		Addr:     c.arrival.addr,
		Listener: c.listener.name,
		Level:    c.login.level,
		Duration: time.Since(c.arrival.accepted),
	}
	if c.login.connect != nil {
		r.Fingerprint = c.fingerprint()
		if c.login.connect.ClientID != "" {
			r.ClientID = c.login.clientID
		}
	}
	var denial *authz.Denial
	switch {
	case c.login.client != nil:
		r.Subject = c.login.client.Subject()
	case errors.As(refused.Err, &denial):
		r.Subject = denial.Subject
	}
	return r
}

// sendRefusalCode sends the CONNACK for a refusal, if there is one for it, and returns its
// code.
func (c *conn) sendRefusalCode(refused *RefusedError) (code packets.ReasonCode, sent bool) {
	if refused.Reason == UpstreamRefused {
		return c.link.refusalCode, c.writeConnack(c.link.refusal, lingerTimeout) == nil
	}
	info := refused.Reason.Info()
	code = info.V3
	if c.login.level == 5 {
		code = info.V5
		var malformed *packets.MalformedError
		if refused.Reason == Malformed && errors.As(refused.Err, &malformed) {
			code = malformed.Code
		}
	}
	if code == 0 || c.login.level == 0 {
		return 0, false
	}
	ack := packets.Connack{Code: code}
	return code, c.writeConnack(ack.Append(nil, c.login.level), lingerTimeout) == nil
}

// errTooLargeForClient is the error of a CONNACK that the client does not accept.
var errTooLargeForClient = errors.New("the CONNACK is larger than the Maximum Packet Size of the client")

// writeConnack sends a CONNACK, as write does. If it is larger than the Maximum Packet Size
// of the client, the Reason String and the User Properties are left out. If it is still too
// large, nothing is sent. MQTT 5.0 section 3.1.2.11.4, [MQTT-3.2.2-19], [MQTT-3.2.2-20]
func (c *conn) writeConnack(raw []byte, within time.Duration) error {
	if limit := c.packetLimit(); uint64(len(raw)) > limit {
		var ack packets.Connack
		if err := ack.Parse(raw, c.login.level); err != nil {
			return err
		}
		ack.Properties = ack.Properties.Without(packets.ReasonString, packets.UserProperty)
		if raw = ack.Append(nil, c.login.level); uint64(len(raw)) > limit {
			return errTooLargeForClient
		}
	}
	return c.write(raw, within)
}

// packetLimit returns the size in bytes of the largest packet that the client accepts.
func (c *conn) packetLimit() uint64 {
	if c.login.connect != nil && c.login.level == 5 {
		if n, ok := c.login.connect.Properties.MaximumPacketSize(); ok {
			return uint64(n)
		}
	}
	return math.MaxUint64
}

// lingerTimeout is how long a refused client has to take its CONNACK, and again to close
// the connection.
const lingerTimeout = time.Second

// closeAfterRefusal closes the connection. A client that has been answered gets the time
// to read the answer: closing a socket with unread bytes in it resets the connection, and
// the CONNACK would be lost.
func (c *conn) closeAfterRefusal(answered bool) {
	if answered {
		now := time.Now()
		_ = c.arrival.raw.SetDeadline(now.Add(lingerTimeout))
		c.srv.admission.linger(c, now)
		_ = c.arrival.transport.Conn.CloseWrite()
		c.discardInput()
	}
	// Not the TLS connection: closing that would write, and wait up to five seconds for it.
	_ = c.arrival.raw.Close()
}

// discardInput reads what the client has sent after its CONNECT, up to a bound, until the
// client closes.
func (c *conn) discardInput() {
	_, _ = io.Copy(io.Discard, io.LimitReader(c.arrival.raw, 64<<10))
}
