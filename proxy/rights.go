package proxy

import (
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// rights are what one session may do with topics, what they are called at the broker, and the
// session's limits.
type rights struct {
	acl    *authz.BoundACL // nil if the broker decides
	topics *topicmap.Bound // nil if topics pass as they are
	limits authz.Limits
}

func (r rights) any() bool { return r.acl != nil || r.topics != nil || r.limits.Bound() }

// policyRights are the rights that a policy gives the holder of a grant, before they are
// bound to a session.
type policyRights struct {
	acl    *authz.ACL
	topics *topicmap.Map
	limits authz.Limits
}

func (r policyRights) any() bool { return r.acl != nil || r.topics != nil || r.limits.Bound() }

// rightsOf returns the rules of the grant, or else of the policy, the map, and the limits of
// the grant over those of the policy. Neither rules of the policy nor the map apply to a
// superuser; limits do.
func (p *Policy) rightsOf(g *authz.Grant) policyRights {
	limits := g.Limits.Over(p.SessionLimits)
	switch {
	case g.Superuser:
		return policyRights{acl: g.ACL, limits: limits}
	case g.ACL != nil:
		return policyRights{g.ACL, p.Topics, limits}
	}
	return policyRights{p.ACL, p.Topics, limits}
}

// bindRights binds topic rules and topic map to this session, and applies them to the
// will. A value that would change what a rule means, such as a client id with a wildcard
// in it, refuses the client: leaving the rule out might allow what it denies.
func (c *conn) bindRights() error {
	client := c.login.client
	rights := c.policy.rightsOf(client.Grant)
	if rights.limits.Bound() {
		c.login.rights.limits = rights.limits
		c.login.session.extras.setLimits(rights.limits)
	}
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
	if code, err := inspect.WillLimit(c.login.rights.limits, c.login.level, c.login.connect.Will); err != nil {
		return refuse(willReason(code), err)
	}
	var err error
	if c.login.will, err = inspect.Will(c.login.rights.acl, c.login.rights.topics, c.login.connect.Will); err != nil {
		return refuse(WillTopic, err)
	}
	return nil
}

// willReason is the reason for the code with which a will is over a limit.
func willReason(code packets.ReasonCode) Reason {
	switch code {
	case packets.QoSNotSupported:
		return WillQoS
	case packets.RetainNotSupported:
		return WillRetain
	}
	return WillTooLarge
}

// addFilters makes the relay apply the session's rights, if it has any.
func (c *conn) addFilters(pair *relay.Pair) {
	if !c.login.rights.any() {
		return
	}
	up, down := inspect.New(inspect.Session{
		Level: c.login.level, ACL: c.login.rights.acl, Topics: c.login.rights.topics, Limits: c.login.session.extras.limits,
		Broker: c.link.takes, Client: inspect.LimitsOf(c.login.connect.Properties),
		Denied: c.login.session.denied,
	})
	pair.FilterUp, pair.FilterDown = up, down
}

// announceLimits tells a 5.0 client, in the CONNACK, the limits of its session that are
// below those of the broker. A packet may also grow on its way to the broker, so that the
// client may send less than the broker takes. It reports whether the CONNACK has changed.
func (c *conn) announceLimits(ack *packets.Connack) (changed bool) {
	if c.login.level < 5 {
		return false
	}
	set := func(p packets.Properties) { ack.Properties, changed = p, true }
	limits, brokers := c.login.rights.limits, c.link.takes.MaximumPacketSize
	most := brokers
	if growth := inspect.Growth(c.login.rights.topics); most > 0 {
		most = max(1, most-min(most, growth))
	}
	if own := uint32(limits.MaxPacket); own > 0 && (most == 0 || own < most) {
		most = own
	}
	if most != brokers {
		set(ack.Properties.WithMaximumPacketSize(most))
	}
	if qos, ok := ack.Properties.MaximumQoS(); limits.MostQoS() < 2 && (!ok || limits.MostQoS() < qos) {
		set(ack.Properties.WithByte(packets.MaximumQoS, limits.MostQoS()))
	}
	if available, ok := ack.Properties.RetainAvailable(); !limits.MayRetain() && (!ok || available) {
		set(ack.Properties.WithByte(packets.RetainAvailable, 0))
	}
	return changed
}
