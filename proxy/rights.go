package proxy

import (
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// bindRights binds the topic rules of the grant to this session, and applies them to the
// will. A value that would change what a rule means, such as a client id with a wildcard
// in it, refuses the client: leaving the rule out might allow what it denies.
func (c *conn) bindRights() error {
	rules := c.login.client.Grant.ACL
	if rules == nil {
		return nil
	}
	values := authz.ACLValues{ClientID: c.login.sentID, Subject: c.login.client.Subject(), Attrs: c.login.client.Grant.Attrs}
	if c.login.location.place != username {
		values.Username = c.login.connect.Username
	}
	bound, err := rules.Bind(values)
	if err != nil {
		return refuse(ClientIDNotUsable, fmt.Errorf("topic rules: %w", err))
	}
	if !inspect.AllowsWill(bound, c.login.connect) {
		return refuse(WillTopic, errors.New("the token's topic rules do not allow it"))
	}
	c.login.rights = bound
	return nil
}

// addFilters makes the relay apply the session's topic rules, if there are any.
func (c *conn) addFilters(pair *relay.Pair) {
	if c.login.rights == nil {
		return
	}
	up, down := inspect.New(inspect.Session{
		Level: c.login.level, ACL: c.login.rights, TopicAliasMaximum: c.link.topicAliases, Denied: c.login.session.denied,
	})
	pair.FilterUp, pair.FilterDown = up, down
}

// aliasMaximum returns how many topic aliases the broker accepts (MQTT 5.0 section
// 3.2.2.3.8).
func aliasMaximum(ack *packets.Connack) uint16 {
	n, _ := ack.Properties.TopicAliasMaximum()
	return n
}
