package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

// login is what a client has sent in its CONNECT, and the session that results from it.
type login struct {
	connect  *packets.Connect // nil until it has been read
	level    byte             // of the protocol; 0 while it is unknown
	token    authz.Token
	location TokenLocation // where the token was
	pair     authz.Pair    // if the Authorizer takes pairs

	clientID string // by which the session is known, see chooseClientID
	sentID   string // stands for the client id towards the broker

	check   *check       // while the token is being checked
	session *session     // set once the token is good, and client with it
	client  *Client      // the session's
	will    packets.Will // of the CONNECT, as the broker gets it, if the session is filtered

	rights   inspect.Rights // with which the session begins, if it is filtered
	filtered bool           // there are rights to apply
}

// maxChecks is how often a token is checked because revocations came during the check
// that apply to this very client.
const maxChecks = 3

// authorize asks the Authorizer until there is an answer that no revocation has
// overtaken. With a good answer the connection is a session.
func (c *conn) authorize() error {
	ctx, cancel := context.WithTimeout(c.ctx, c.policy.connectTimeout())
	defer cancel()
	request := c.request()
	for range maxChecks {
		c.login.check = c.srv.registry.beginCheck()
		rechecks := c.srv.rechecks.count()
		grant, err := c.policy.Authorizer.Authorize(ctx, request)
		if err != nil {
			return authError(err)
		}
		if err := grant.Check(request, time.Now()); err != nil {
			return authError(err)
		}
		c.settle(grant)
		request = c.request()
		s := c.newSession(grant)
		s.rechecks = rechecks
		if c.srv.registry.register(c.login.check, s) {
			c.login.check, c.login.session, c.login.client = nil, s, s.current()
			s.expireInTime()
			return nil
		}
	}
	return authError(&authz.Denial{Reason: authz.Revoked, Detail: "withdrawn while it was being checked"})
}

// settle drops the credential for which the grant was not given, so that every later question
// is about the other one. What was taken for the token of a client that is known by its pair is
// not one: a user name is no secret, and a client id may be the same.
func (c *conn) settle(g *authz.Grant) {
	if !g.IsPair() {
		c.login.pair = authz.Pair{}
		return
	}
	if c.login.location.place == nowhere {
		return
	}
	c.login.token, c.login.location = authz.Token{}, TokenLocation{place: nowhere}
	c.chooseClientID()
}

// tokenHash returns what stands for the client's credential.
func (c *conn) tokenHash(g *authz.Grant) [32]byte {
	if g.IsPair() {
		return g.PairHash
	}
	return c.login.token.Hash()
}

func (c *conn) newSession(g *authz.Grant) *session {
	s := &session{srv: c.srv, abort: c.abort}
	if r := c.newRules(g); c.arrival.ws != nil || r != nil {
		s.extras = &extras{ws: c.arrival.ws, rules: r, renewal: c.newRenewal()}
	}
	s.client.Store(c.newClient(g))
	return s
}

func (c *conn) newClient(g *authz.Grant) *Client {
	client := &Client{
		ClientID:  c.login.clientID,
		Grant:     g,
		TokenHash: c.tokenHash(g),
		Addr:      c.arrival.addr,
		Listener:  c.listener.name,
		Level:     c.login.level,
		Since:     c.arrival.accepted,
	}
	if c.arrival.tls != nil {
		client.TLS = c.arrival.tls.Version
		if chains := c.arrival.tls.VerifiedChains; len(chains) > 0 {
			client.chains = &chains
		}
	}
	return client
}

// limitSubject applies the limit on the sessions of one subject.
func (c *conn) limitSubject() error {
	limits := c.policy.Limits
	most := limits.PerSubject
	if own := c.login.client.Grant.Limits.Sessions; own > 0 {
		most = int(own)
	}
	if most <= 0 {
		return nil
	}
	excess := c.srv.registry.excessOf(c.login.session, most)
	if limits.RefuseNewest && len(excess) > 0 {
		return refuse(Busy, errors.New("the limit on sessions of one subject is reached"))
	}
	for _, s := range excess {
		s.cut(ErrDisplaced)
	}
	return nil
}
