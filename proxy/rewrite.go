package proxy

import (
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// ConnectRequest is a CONNECT on its way to the broker.
type ConnectRequest struct {
	// Client is who asks. Its ClientID is never empty: a client that sent none
	// has one made up.
	Client *Client
	// Token is the token that let it in.
	Token authz.Token
	// ClientID and Username stand for those of the client towards the broker. They
	// are what the client sent, or a client id made up for a client without one. What
	// is a token is replaced by 32 hexadecimal digits, 23 for MQTT 3.1, that are the
	// same for the same token; see Policy.ClientIDKey.
	ClientID, Username string
	// In is what the client sent, its token among it. It must not be changed.
	In *packets.Connect
	// Out is what the broker will get: In without user name, password and every
	// user property or authentication data in which the policy looks for a token.
	// Its ClientID is empty if a 5.0 client sent none, so that the broker may choose.
	Out *packets.Connect
}

// rewrite makes the CONNECT that the broker will get.
func (c *conn) rewrite() (*ConnectRequest, error) {
	if c.login.connect.MissingClientID() {
		return nil, refuse(NoClientID, errors.New("MQTT 3.1 always needs a client id, 3.1.1 without a clean session"))
	}
	in := c.login.connect
	out := *in
	out.Username, out.HasUsername = "", false
	out.Password, out.HasPassword = "", false
	out.Properties = c.policy.withoutTokens(out.Properties)
	// With topic rules, which may name the client id, it has to be known now.
	if c.login.level < 5 || in.ClientID != "" || c.login.rights != nil {
		out.ClientID = c.login.sentID
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

func rewriteError(err error) error {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return err
	}
	return refuse(UpstreamUnavailable, err)
}

// withoutTokens returns the properties of a CONNECT without all those in which a
// token may sit, so that the broker gets no token, not even one that was not used.
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
