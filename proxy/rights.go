package proxy

import (
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// bindRights makes the grant's topic rules those of this session. A value that
// would change what a rule means, such as a client id with a wildcard in it,
// refuses the client: leaving the rule out might open what it closes.
func (c *conn) bindRights() error {
	rules := c.client.Grant.ACL
	if rules == nil {
		return nil
	}
	values := authz.ACLValues{ClientID: c.sentID, Subject: c.client.Subject(), Attrs: c.client.Grant.Attrs}
	if c.location.place != username {
		values.Username = c.in.Username
	}
	bound, err := rules.Bind(values)
	if err != nil {
		return refuse(ClientIDNotUsable, fmt.Errorf("topic rules: %w", err))
	}
	c.rights = bound
	return nil
}

// mayLeaveWill reports whether the client may publish what it asks for as its
// will.
func (c *conn) mayLeaveWill() bool { return c.rights == nil || inspect.AllowsWill(c.rights, c.in) }

// inspect keeps the session within its rights. One without any passes untouched.
func (c *conn) inspect(pair *relay.Pair) {
	if c.rights == nil {
		return
	}
	up, down := inspect.New(inspect.Session{
		Level: c.level, ACL: c.rights, TopicAliasMaximum: c.aliases, Denied: c.session.denied,
	})
	pair.FilterUp, pair.FilterDown = up, down
}

// aliasMaximum returns how many topic aliases the broker accepts (MQTT 5.0
// section 3.2.2.3.8).
func aliasMaximum(ack *packets.Connack) uint16 {
	n, _ := ack.Properties.TopicAliasMaximum()
	return n
}
