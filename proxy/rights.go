package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// rules is what the rights of a session follow from, together with its grant.
type rules struct {
	// These are set before the session is registered.
	policy             *Policy
	clientID, username string        // of [authz.ACLValues]
	will               *packets.Will // without payload; nil if there is none

	mu      sync.Mutex
	control inspect.Control
	from    *authz.Grant // that the rights in force follow from
	live    bool         // the relay filters the session
	paced   bool         // the relay holds the client to rates
	level   byte         // of the protocol; set as policy is
}

// newRules returns the rules for a session with the grant g, or nil if nothing but another
// grant could bring it any.
func (c *conn) newRules(g *authz.Grant) *rules {
	r := &rules{policy: c.policy.Policy, level: c.login.level, from: g}
	if r.policy.ACL == nil && r.policy.Topics == nil && !r.apply(g) && c.login.location.place != authData {
		return nil
	}
	if r.clientID = c.login.clientID; c.login.sentID != r.clientID {
		r.clientID = strings.Clone(c.login.sentID)
	}
	if c.login.location.place != username {
		r.username = strings.Clone(c.login.connect.Username)
	}
	return r
}

// of returns the rules of the grant, or else of the policy, the map, and the limits of the
// grant over those of the policy. Neither rules of the policy nor the map apply to a superuser;
// limits do. A reader has the rules of its grant and no others, and none of them lets it publish.
func (r *rules) of(g *authz.Grant) (*authz.ACL, *topicmap.Map, *authz.Limits) {
	limits := &r.policy.SessionLimits // shared by all sessions without limits of their own
	if g.Limits != (authz.Limits{}) {
		own := g.Limits.Over(*limits)
		limits = &own
	}
	switch {
	case g.Role == authz.RoleReader:
		return g.ACL.SubscribeOnly(), nil, limits
	case g.Superuser:
		return g.ACL, nil, limits
	case g.ACL != nil:
		return g.ACL, r.policy.Topics, limits
	}
	return r.policy.ACL, r.policy.Topics, limits
}

// apply reports whether there are any rights to apply to the holder of a grant.
func (r *rules) apply(g *authz.Grant) bool {
	acl, topics, limits := r.of(g)
	return acl != nil || topics != nil || limits.Bound()
}

// bind returns the rights that the holder of a grant has in this session. A value that would
// change what a rule means, such as a client id with a wildcard in it, is an error: leaving the
// rule out might allow what it denies.
func (r *rules) bind(g *authz.Grant) (rights inspect.Rights, err error) {
	acl, topics, limits := r.of(g)
	rights.Limits = limits
	if acl != nil {
		values := authz.ACLValues{ClientID: r.clientID, Username: r.username, Subject: g.Subject, Attrs: g.Attrs}
		if rights.ACL, err = acl.Bind(values); err != nil {
			return rights, refuse(ClientIDNotUsable, fmt.Errorf("topic rules: %w", err))
		}
	}
	if topics != nil {
		if rights.Topics, err = topics.Bind(g.Subject, g.Attrs); err != nil {
			return rights, refuse(TopicNotUsable, fmt.Errorf("topic map: %w", err))
		}
	}
	return rights, nil
}

// bindRights binds topic rules and topic map to this session, and applies them to the will.
func (c *conn) bindRights() (err error) {
	r := c.login.session.rules()
	if r == nil {
		return nil
	}
	r.rememberWill(c.login.connect)
	if !r.apply(c.login.client.Grant) {
		return nil
	}
	rights, err := r.bind(c.login.client.Grant)
	if err != nil {
		return err
	}
	c.login.rights = rights
	c.login.filtered = true
	if !c.login.connect.HasWill {
		return nil
	}
	will := c.login.connect.Will
	if code, err := inspect.WillLimit(*rights.Limits, c.login.level, will); err != nil {
		return refuse(willReason(code), err)
	}
	if c.login.will, err = inspect.Will(rights.ACL, rights.Topics, will); err != nil {
		return refuse(WillTopic, err)
	}
	return nil
}

// rememberWill remembers the will of p. Rights that come later may not allow it, even if there are
// none now.
func (r *rules) rememberWill(p *packets.Connect) {
	if !p.HasWill {
		return
	}
	r.will = &packets.Will{Topic: strings.Clone(p.Will.Topic), QoS: p.Will.QoS, Retain: p.Will.Retain}
	if topic, ok := p.Will.Properties.ResponseTopic(); ok {
		r.will.Properties = packets.Properties(nil).With(packets.ResponseTopic, topic)
	}
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

// limits returns the limits with which the session begins, also if it is not filtered.
func (c *conn) limits() *authz.Limits { return cmp.Or(c.login.rights.Limits, &authz.Limits{}) }

// hasRate reports whether l holds a client to a rate.
func hasRate(l *authz.Limits) bool { return l.PublishRate > 0 || l.ByteRate > 0 }

// addFilters makes the relay apply the session's rights, if it has any, and read AUTH packets if
// they are the proxy's.
func (c *conn) addFilters(pair *relay.Pair) {
	s := c.login.session
	if !c.login.filtered && s.renewal() == nil {
		return
	}
	r, rights := s.rules(), c.login.rights
	r.mu.Lock()
	defer r.mu.Unlock()
	up, down := inspect.New(inspect.Session{
		Level: c.login.level, ACL: rights.ACL, Topics: rights.Topics, Limits: rights.Limits, Resumed: c.link.resumed, Control: &r.control,
		Broker: c.link.takes, Client: inspect.LimitsOf(c.login.connect.Properties),
		Denied: s.denied, Renewal: s.renewal().inspection(s),
	})
	pair.FilterUp, pair.FilterDown, r.live = up, down, true
	if r.paced = hasRate(c.limits()); r.paced {
		pair.PaceUp = inspect.NewPace(r.control.Limits)
	}
}

// announceLimits tells a 5.0 client, in the CONNACK, the limits of its session that are
// below those of the broker. A packet may also grow on its way to the broker, so that the
// client may send less than the broker takes. It reports whether the CONNACK has changed.
func (c *conn) announceLimits(ack *packets.Connack) (changed bool) {
	if c.login.level < 5 {
		return false
	}
	set := func(p packets.Properties) { ack.Properties, changed = p, true }
	rights := c.login.rights
	limits, brokers := c.limits(), c.link.takes.MaximumPacketSize
	most := brokers
	if growth := inspect.Growth(rights.Topics); most > 0 {
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

// Reasons why rights cannot be swapped under a session.
var (
	errUnread    = fmt.Errorf("%w: no packets have been read so far", ErrWillWithdrawn)
	errWill      = fmt.Errorf("%w: the broker has a will that is not allowed any more", ErrWillWithdrawn)
	errUnpaced   = fmt.Errorf("%w: the client was not held to a rate so far", ErrRightsChanged)
	errGateway   = fmt.Errorf("%w: the client is a gateway now, or is none any more", ErrRightsChanged)
	errRole      = fmt.Errorf("%w: the token has another role, which the broker knows since the CONNECT", ErrRightsChanged)
	errAnnounced = fmt.Errorf("%w: the client was sent wider limits in its CONNACK", ErrRightsChanged)
)

// follow makes the rights those that the session's grant gives, for all packets from now on. If
// that is not possible, it ends the session. A broker knows whether a session is that of a gateway
// since its start, so a change of that, compared with the grant old, ends the session.
func (s *session) follow(old *authz.Grant) {
	if s.current().Grant.Gateway != old.Gateway {
		s.cut(errGateway)
		return
	}
	r := s.rules()
	if r == nil {
		if g := s.current().Grant; g.ACL != nil || g.Limits.Bound() || g.Role != authz.RoleDevice {
			s.cut(errUnread)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.swap(s.current().Grant); err != nil {
		s.cut(err)
	}
}

// swap is follow, with the cause for which the session ends. r.mu is held.
func (r *rules) swap(g *authz.Grant) error {
	if sameRights(r.from, g) || !r.live && !r.apply(g) {
		return nil
	}
	next, err := r.bind(g)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrWillWithdrawn, err)
	case !r.live:
		return errUnread
	case !r.keepsWill(next):
		return errWill
	case g.Role != r.from.Role:
		return errRole
	case r.level >= 5 && announcesLess(r.control.Rights().Limits, next.Limits):
		return errAnnounced
	case hasRate(next.Limits) && !r.paced:
		return errUnpaced
	}
	if err := r.control.Swap(next); err != nil {
		return fmt.Errorf("%w: %w", ErrRightsChanged, err)
	}
	r.from = g
	return nil
}

// sameRights reports whether both grants give the same rights in every session.
func sameRights(a, b *authz.Grant) bool {
	return a == b || a.ACL.Equal(b.ACL) && a.Role == b.Role && a.Superuser == b.Superuser && a.Limits.Equal(b.Limits) && maps.Equal(a.Attrs, b.Attrs)
}

// keepsWill reports whether the will that the broker has is one that the client may have with
// the rights next.
func (r *rules) keepsWill(next inspect.Rights) bool {
	if r.will == nil {
		return true
	}
	now := r.control.Rights()
	old, err := inspect.Will(now.ACL, now.Topics, *r.will)
	if err != nil {
		return false
	}
	will, err := inspect.Will(next.ACL, next.Topics, *r.will)
	if _, over := inspect.WillLimit(*next.Limits, r.level, *r.will); over != nil {
		return false
	}
	return err == nil && will.Topic == old.Topic && string(will.Properties) == string(old.Properties)
}

// announcesLess reports whether a CONNACK with the limits next announces less than one with
// the limits was.
func announcesLess(was, next *authz.Limits) bool {
	return next.MaxPacket > 0 && (was.MaxPacket == 0 || next.MaxPacket < was.MaxPacket) ||
		next.MostQoS() < was.MostQoS() || was.MayRetain() && !next.MayRetain()
}
