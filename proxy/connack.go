package proxy

import (
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

// passAnswer passes the broker's CONNACK to the client. A success goes on unchanged unless
// a property must be added. A refusal that is the client's fault goes on in the form of the
// client's version.
func (c *conn) passAnswer(raw []byte, out *packets.Connect) error {
	ack, version, err := readConnack(raw, c.login.level)
	switch {
	case err != nil:
		return refuse(UpstreamUnavailable, fmt.Errorf("the broker's CONNACK: %w", err))
	case ack.Code != packets.Success:
		return c.upstreamRefusal(raw, ack.Code, version, out)
	}
	c.srv.acceptances.add(c.acceptanceKey(out))
	c.link.takes, c.link.resumed = inspect.LimitsOf(ack.Properties), c.mayBeResumed(ack.SessionPresent)
	changed := c.echoMethod(&ack, out)
	changed = c.announceLimits(&ack) || changed
	if c.login.level == 5 && c.login.connect.ClientID == "" {
		assigned, err := c.agreeOnClientID(&ack)
		if err != nil {
			return err
		}
		changed = changed || assigned
	}
	if changed {
		raw = ack.Append(nil, c.login.level)
	}
	err = c.writeConnack(raw, c.policy.connectTimeout())
	switch {
	case errors.Is(err, errTooLargeForClient):
		return refuse(TooLarge, err)
	case err != nil:
		return refuse(ConnectionLost, fmt.Errorf("send CONNACK: %w", err))
	}
	return nil
}

// mayBeResumed reports whether the broker may have kept a session of the client. The CONNACK of
// MQTT 3.1 does not say so.
func (c *conn) mayBeResumed(present bool) bool {
	return present || c.login.level == 3 && !c.login.connect.CleanStart
}

// readConnack reads the broker's answer to a CONNECT of the given level. A broker that does
// not know the client's version refuses in the form of another: one of MQTT 3.1.1 answers a
// CONNECT of 5.0 with return code 1 [MQTT-3.1.2-2]. version is the level whose form the
// answer has.
func readConnack(raw []byte, level byte) (ack packets.Connack, version byte, err error) {
	if err = ack.Parse(raw, level); err == nil {
		return ack, level, nil
	}
	version = 5
	if level == 5 {
		version = 4
	}
	var other packets.Connack
	if other.Parse(raw, version) != nil || other.Code == packets.Success {
		return packets.Connack{}, level, err
	}
	return other, version, nil
}

// translateCode returns the code of a refusal in the numbers of the given level. It returns
// codes of that level unchanged.
func translateCode(code packets.ReasonCode, level byte) packets.ReasonCode {
	switch {
	case level == 5 && code < 0x80:
		return codeFor5(code)
	case level < 5 && code >= 0x80:
		return codeFor3(code)
	}
	return code
}

// codeFor5 returns the reason code of MQTT 5.0 for a return code of 3.1.1.
func codeFor5(code packets.ReasonCode) packets.ReasonCode {
	switch code {
	case packets.RefusedProtocolVersion:
		return packets.UnsupportedProtocolVersion
	case packets.RefusedIdentifier:
		return packets.ClientIDNotValid
	case packets.RefusedUserName:
		return packets.BadUserNameOrPassword
	case packets.RefusedNotAuthorized:
		return packets.NotAuthorized
	}
	return packets.ServerUnavailable
}

// codeFor3 returns the return code of MQTT 3.1.1 for a reason code of 5.0.
func codeFor3(code packets.ReasonCode) packets.ReasonCode {
	switch code {
	case packets.UnsupportedProtocolVersion:
		return packets.RefusedProtocolVersion
	case packets.ClientIDNotValid:
		return packets.RefusedIdentifier
	case packets.BadUserNameOrPassword:
		return packets.RefusedUserName
	case packets.NotAuthorized, packets.Banned, packets.BadAuthenticationMethod:
		return packets.RefusedNotAuthorized
	}
	return packets.RefusedServerUnavailable
}

// echoMethod adds the client's authentication method to a success if the broker was not
// sent it, because every successful CONNACK must repeat it [MQTT-4.12.0-5]. It reports
// whether the CONNACK has changed.
func (c *conn) echoMethod(ack *packets.Connack, out *packets.Connect) bool {
	method, ok := c.login.connect.Properties.AuthenticationMethod()
	if _, seen := out.Properties.AuthenticationMethod(); !ok || seen {
		return false
	}
	ack.Properties = ack.Properties.With(packets.AuthenticationMethod, method)
	return true
}

// agreeOnClientID makes client, broker and registry agree about the id of a 5.0 client that
// sent none: either the CONNACK gets the id that was made up, or the registry gets the id
// that the broker assigned [MQTT-3.2.2-16]. It reports whether the CONNACK has changed.
func (c *conn) agreeOnClientID(ack *packets.Connack) (changed bool, err error) {
	if c.link.assignID {
		ack.Properties = ack.Properties.With(packets.AssignedClientIdentifier, c.login.clientID)
		return true, nil
	}
	id, ok := ack.Properties.AssignedClientIdentifier()
	if !ok {
		return false, nil
	}
	c.login.client = c.login.session.change(func(client *Client) { client.ClientID = id })
	if !c.srv.registry.claim(c.login.session, id) {
		return false, refuse(UpstreamUnavailable, errors.New("the broker assigned a client id with which another subject has a session"))
	}
	return false, nil
}

// upstreamRefusal returns the refusal for a broker's CONNACK that refuses in the form of the
// given version. If the broker refused credentials that the proxy put in, that is not the
// client's fault, and the client gets "server unavailable".
func (c *conn) upstreamRefusal(raw []byte, code packets.ReasonCode, version byte, out *packets.Connect) error {
	refused := fmt.Errorf("the broker answered %v (%d)", code, byte(code))
	if version != c.login.level {
		refused = fmt.Errorf("%w in the form of MQTT %s", refused, versionName(version))
	}
	if aboutCredentials(code) && !c.sameCredentials(out) && !c.srv.acceptances.likelyGood(c.acceptanceKey(out), c.login.client.Subject()) {
		return refuse(UpstreamCredentials, fmt.Errorf("%w to the credentials that the proxy put in place of the client's", refused))
	}
	c.link.refusal, c.link.refusalCode = raw, translateCode(code, c.login.level)
	if version != c.login.level || c.link.refusalCode != code {
		c.link.refusal = (&packets.Connack{Code: c.link.refusalCode}).Append(nil, c.login.level)
	}
	return refuse(UpstreamRefused, refused)
}

// aboutCredentials reports whether a broker may refuse wrong credentials with the code.
func aboutCredentials(code packets.ReasonCode) bool {
	switch code {
	case packets.RefusedUserName, packets.RefusedNotAuthorized, packets.BadUserNameOrPassword, packets.NotAuthorized:
		return true
	}
	return false
}

// sameCredentials reports whether the broker was sent the client's own credentials.
func (c *conn) sameCredentials(out *packets.Connect) bool {
	return out.HasUsername == c.login.connect.HasUsername && out.Username == c.login.connect.Username &&
		out.HasPassword == c.login.connect.HasPassword && out.Password == c.login.connect.Password
}
