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
		if _, known := reason.info(); !known {
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
	info := refused.Reason.Info()
	code := info.V3
	if c.level == 5 {
		code = info.V5
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
