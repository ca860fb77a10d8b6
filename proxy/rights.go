package proxy

import (
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// rights are what one session may do with topics, and what they are called at the broker.
type rights struct {
	acl    *authz.BoundACL // nil if the broker decides
	topics *topicmap.Bound // nil if topics pass as they are
}

func (r rights) any() bool { return r.acl != nil || r.topics != nil }

// policyRights are the rights that a policy gives the holder of a grant, before they are
// bound to a session.
type policyRights struct {
	acl    *authz.ACL
	topics *topicmap.Map
}

func (r policyRights) any() bool { return r.acl != nil || r.topics != nil }

// rightsOf returns the rules of the grant, or else of the policy, and the map. Neither
// rules of the policy nor the map apply to a superuser.
func (p *Policy) rightsOf(g *authz.Grant) policyRights {
	switch {
	case g.Superuser:
		return policyRights{acl: g.ACL}
	case g.ACL != nil:
		return policyRights{g.ACL, p.Topics}
	}
	return policyRights{p.ACL, p.Topics}
}

// bindRights binds topic rules and topic map to this session, and applies them to the
// will. A value that would change what a rule means, such as a client id with a wildcard
// in it, refuses the client: leaving the rule out might allow what it denies.
func (c *conn) bindRights() error {
	client := c.login.client
	rights := c.policy.rightsOf(client.Grant)
	if rights.acl != nil {
		values := authz.ACLValues{ClientID: c.login.sentID, Subject: client.Subject(), Attrs: client.Grant.Attrs}
		if c.login.location.place != username {
			values.Username = c.login.connect.Username
		}
		bound, err := rights.acl.Bind(values)
		if err != nil {
			return refuse(ClientIDNotUsable, fmt.Errorf("topic rules: %w", err))
		}
		c.login.rights.acl = bound
	}
	if rights.topics != nil {
		bound, err := rights.topics.Bind(client.Subject(), client.Grant.Attrs)
		if err != nil {
			return refuse(TopicNotUsable, fmt.Errorf("topic map: %w", err))
		}
		c.login.rights.topics, c.login.session.extras.topics = bound, bound
	}
	if !c.login.connect.HasWill || !c.login.rights.any() {
		return nil
	}
	var err error
	if c.login.will, err = inspect.Will(c.login.rights.acl, c.login.rights.topics, c.login.connect.Will); err != nil {
		return refuse(WillTopic, err)
	}
	return nil
}

// addFilters makes the relay apply the session's rights, if it has any.
func (c *conn) addFilters(pair *relay.Pair) {
	if !c.login.rights.any() {
		return
	}
	up, down := inspect.New(inspect.Session{
		Level: c.login.level, ACL: c.login.rights.acl, Topics: c.login.rights.topics,
		Broker: c.link.takes, Client: inspect.LimitsOf(c.login.connect.Properties),
		Denied: c.login.session.denied,
	})
	pair.FilterUp, pair.FilterDown = up, down
}

// limitPacketSize announces to a 5.0 client how large its packets may be, where the
// broker has a limit and a packet may grow on its way there. It reports whether the
// CONNACK has changed.
func (c *conn) limitPacketSize(ack *packets.Connack) bool {
	growth, most := inspect.Growth(c.login.rights.topics), c.link.takes.MaximumPacketSize
	if growth == 0 || most == 0 {
		return false
	}
	ack.Properties = ack.Properties.WithMaximumPacketSize(max(1, most-min(most, growth)))
	return true
}
