package proxy

import (
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// ConnectRequest is a CONNECT on its way to the broker.
type ConnectRequest struct {
	// Client is the client that connects. Its ClientID is never empty: one is made up for
	// a client that sent none.
	Client *Client
	// Token is the client's token; zero if it is known by its user name and password.
	Token authz.Token
	// ClientID and Username stand for those of the client towards the broker. They are
	// what the client sent, or the client id that was made up. If one of them is the token
	// or the password, it is replaced by 32 hexadecimal digits, 23 for MQTT 3.1, that are
	// the same for the same secret; see Policy.ClientIDKey.
	ClientID, Username string
	// In is what the client sent, with its token. It must not be changed.
	In *packets.Connect
	// Out is what the broker will be sent: In without user name, password, and the user
	// properties and authentication data in which the policy looks for a token. Its
	// ClientID is empty if a 5.0 client sent none, so that the broker may assign one.
	Out *packets.Connect
}

// rewrite makes the CONNECT that the broker will be sent.
func (c *conn) rewrite() (*ConnectRequest, error) {
	if c.login.connect.MissingClientID() {
		return nil, refuse(NoClientID, errors.New("MQTT 3.1 always needs a client id, 3.1.1 without a clean session"))
	}
	in := c.login.connect
	out := *in
	out.Username, out.HasUsername = "", false
	out.Password, out.HasPassword = "", false
	out.Properties = c.policy.withoutTokens(out.Properties)
	// Topic rules may contain the client id, which has to be known now.
	if c.login.level < 5 || in.ClientID != "" || c.login.filtered {
		out.ClientID = c.login.sentID
	}
	if out.HasWill && c.login.filtered {
		out.Will = c.login.will
	}
	_, username := c.mask(in.Username)
	request := &ConnectRequest{
		Client: c.login.client, Token: c.login.token, ClientID: c.login.sentID, Username: username, In: in, Out: &out,
	}
	if c.policy.Rewrite != nil {
		if err := c.policy.Rewrite(request); err != nil {
			return nil, rewriteError(err)
		}
	}
	if err := out.Check(); err != nil {
		return nil, refuse(UpstreamUnavailable, fmt.Errorf("rewritten CONNECT: %w", err))
	}
	c.link.assignID = in.ClientID == "" && c.login.level == 5 && out.ClientID != ""
	if out.ClientID != "" && !c.srv.registry.claim(c.login.session, out.ClientID) {
		return nil, refuse(ClientIDInUse, errors.New("another subject has a session with this client id"))
	}
	return request, nil
}

// rewriteError returns the refusal for an error of Policy.Rewrite.
func rewriteError(err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return err
	}
	return refuse(UpstreamUnavailable, err)
}

// withoutTokens returns the properties of a CONNECT without those in which a token may be,
// so that the broker is sent no token, not even one that was not used.
func (p *Policy) withoutTokens(props packets.Properties) packets.Properties {
	for _, l := range p.Token {
		switch l.place {
		case userProperty:
			props = props.WithoutUserProperty(l.name)
		case authData:
			props = props.Without(packets.AuthenticationMethod, packets.AuthenticationData)
		}
	}
	return props
}
