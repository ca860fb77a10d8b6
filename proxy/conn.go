package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// conn is one connection from accept until its bytes flow.
type conn struct {
	srv      *Server
	policy   *installed
	entry    *entry
	ctx      context.Context
	abort    context.CancelCauseFunc // ends ctx
	ticket   ticket
	waiting  waiting // guarded by the admission
	excess   error   // what it is only to be refused with
	accepted time.Time
	addr     netip.AddrPort
	raw      net.Conn // as accepted

	header *proxyproto.Header // of the load balancer in front, if one was wanted
	probe  bool               // the load balancer connects for itself

	nc    net.Conn             // what carries the client's MQTT: raw's socket, or TLS and WebSocket over it
	state *tls.ConnectionState // nil without TLS
	peer  *x509.Certificate

	ws      *websocket.Conn    // nil without WebSocket
	opening *websocket.Request // what opened it

	in       *packets.Connect
	level    byte   // of the protocol, 0 while unknown
	clientID string // as the session is known, see settleID
	sentID   string // what stands for it towards the broker
	token    authz.Token
	location TokenLocation

	client  *Client // set once the token is good
	session *session
	check   *check
	rights  *authz.BoundACL // nil: the broker decides about topics

	upstream       net.Conn
	aliases        uint16 // the topic alias maximum of the broker's CONNACK
	assign         bool   // tell a 5.0 client the id that was made up for it
	upstreamAnswer []byte
	upstreamCode   packets.ReasonCode
}

// serve takes the connection from accept to the relay or to its refusal.
func (c *conn) serve() {
	defer c.abort(nil)
	defer c.survive()
	if hook := c.srv.Trace.Accepted; hook != nil {
		hook(c.entry.name())
	}
	if err := c.establish(c.ctx, c.abort); err != nil {
		c.abandon()
		c.refuse(err)
		c.srv.admission.leave(c)
	}
}

// establish is the path from accept to the relay; see the package comment.
func (c *conn) establish(ctx context.Context, abort context.CancelCauseFunc) error {
	if err := c.readConnect(ctx); err != nil {
		return c.withoutConnect(err)
	}
	if err := c.admit(); err != nil {
		return err
	}
	if err := c.takeToken(); err != nil {
		return err
	}
	c.settleID()
	if err := c.authorize(ctx, abort); err != nil {
		return err
	}
	if !c.mayLeaveWill() {
		return refuse(WillTopic, errors.New("the token's topic rules do not allow it"))
	}
	request, err := c.rewrite()
	if err != nil {
		return err
	}
	if !c.srv.admission.grow(c, c.policy.Limits.upstreamDescriptors()) {
		return refuse(Busy, errors.New("the limit on file descriptors is reached"))
	}
	if err := c.makeRoom(); err != nil {
		return err
	}
	if err := c.connectUpstream(ctx, request); err != nil {
		return err
	}
	return c.begin()
}

// readConnect does what comes before MQTT and reads one CONNECT, all of it under one
// absolute deadline that no byte of the client extends.
func (c *conn) readConnect(ctx context.Context) error {
	deadline := c.accepted.Add(c.policy.connectTimeout())
	if err := c.raw.SetDeadline(deadline); err != nil {
		return refuse(ConnectionLost, err)
	}
	switch {
	case ctx.Err() != nil:
		c.hurry(time.Unix(1, 0))
	case c.excess != nil, c.srv.draining():
		c.hurry(time.Now().Add(lastWords))
	}
	if err := c.unwrap(ctx, deadline); err != nil {
		return c.forgive(err)
	}
	in, err := packets.ReadConnect(c.nc, c.policy.maxConnect())
	if err != nil {
		return c.forgive(c.connectError(err))
	}
	c.in, c.level = in, in.Level
	return nil
}

// unwrap does what comes before MQTT.
func (c *conn) unwrap(ctx context.Context, deadline time.Time) error {
	if err := c.readHeader(); err != nil {
		return err
	}
	if err := c.handshake(ctx, deadline); err != nil {
		return err
	}
	return c.upgrade()
}

// hurry moves the end of reading forward, from any goroutine.
func (c *conn) hurry(t time.Time) { _ = c.raw.SetReadDeadline(t) }

// withoutConnect returns why a connection ends that has not sent its CONNECT. Where it
// was closed to make room, or had little time because it was to be refused, that stands
// behind err.
func (c *conn) withoutConnect(err error) error {
	var refused *RefusedError
	switch {
	case context.Cause(c.ctx) == errDisplaced:
		return refuse(Displaced, nil)
	case c.excess != nil && errors.As(err, &refused) && refused.Reason == ConnectTimeout:
		return c.excess
	}
	return err
}

// admit applies what can be told from the CONNECT without its token, and the
// limits that the client is to be told about.
func (c *conn) admit() error {
	switch {
	case !c.srv.admission.connected(c):
		return refuse(Displaced, nil)
	case c.srv.draining():
		return refuse(Draining, nil)
	case c.excess != nil:
		return c.excess
	case !c.policy.accepts(c.level):
		return refuse(WrongVersion, fmt.Errorf("MQTT %s is not allowed here", versionName(c.level)))
	}
	return nil
}

// attempts is how often a check is repeated because revocations that mean this
// very client came while it ran.
const attempts = 3

// authorize asks until there is an answer that no revocation has overtaken. With
// a good answer the connection is a session.
func (c *conn) authorize(ctx context.Context, abort context.CancelCauseFunc) error {
	ctx, cancel := context.WithTimeout(ctx, c.policy.connectTimeout())
	defer cancel()
	request := c.request()
	for range attempts {
		c.check = c.srv.registry.beginCheck()
		grant, err := c.policy.Authorizer.Authorize(ctx, request)
		if err != nil {
			return authError(err)
		}
		if err := grant.Check(request, time.Now()); err != nil {
			return authError(err)
		}
		s := &session{srv: c.srv, abort: abort, extras: c.extras(grant)}
		s.publish(c.newClient(grant))
		if c.srv.registry.admit(c.check, s) {
			c.check, c.session, c.client = nil, s, s.current()
			s.expireAt(grant.Expires)
			return c.bindRights()
		}
	}
	return authError(&authz.Denial{Reason: authz.Revoked, Detail: "withdrawn while it was being checked"})
}

// extras returns what a session over WebSocket or with topic rules needs, nil for others.
func (c *conn) extras(g *authz.Grant) *extras {
	if c.ws == nil && g.ACL == nil {
		return nil
	}
	return &extras{ws: c.ws}
}

// makeRoom applies the limit on the sessions of one subject.
func (c *conn) makeRoom() error {
	limits := c.policy.Limits
	if limits.PerSubject <= 0 {
		return nil
	}
	excess := c.srv.registry.beyond(c.session, limits.PerSubject)
	if limits.RefuseNewest && len(excess) > 0 {
		return refuse(Busy, errors.New("the limit on sessions of one subject is reached"))
	}
	for _, s := range excess {
		s.cut(ErrDisplaced)
	}
	return nil
}

func (c *conn) newClient(g *authz.Grant) *Client {
	client := &Client{
		ClientID:  c.clientID,
		Grant:     g,
		TokenHash: c.token.Hash(),
		Addr:      c.addr,
		Listener:  c.entry.name(),
		Level:     c.level,
		Since:     c.accepted,
	}
	if c.state != nil {
		client.TLS = c.state.Version
		if chains := c.state.VerifiedChains; len(chains) > 0 {
			client.chains = &chains
		}
	}
	return client
}

// rewrite makes the CONNECT that the broker will get.
func (c *conn) rewrite() (*ConnectRequest, error) {
	if c.in.MissingClientID() {
		return nil, refuse(NoClientID, errors.New("MQTT 3.1 always needs a client id, 3.1.1 without a clean session"))
	}
	out := *c.in
	out.Username, out.HasUsername = "", false
	out.Password, out.HasPassword = "", false
	out.Properties = c.policy.withoutTokens(out.Properties)
	// With topic rules, which may name the client id, it has to be known now.
	if c.level < 5 || c.in.ClientID != "" || c.rights != nil {
		out.ClientID = c.sentID
	}
	_, username := c.disguise(c.in.Username)
	request := &ConnectRequest{Client: c.client, Token: c.token, ClientID: c.sentID, Username: username, In: c.in, Out: &out}
	if c.policy.Rewrite != nil {
		if err := c.policy.Rewrite(request); err != nil {
			return nil, rewriteError(err)
		}
	}
	if err := out.Check(); err != nil {
		return nil, refuse(UpstreamUnavailable, fmt.Errorf("rewritten CONNECT: %w", err))
	}
	c.assign = c.in.ClientID == "" && c.level == 5 && out.ClientID != ""
	if out.ClientID != "" && !c.srv.registry.claim(c.session, out.ClientID) {
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

// begin hands both connections to the relay. From here on the client is trusted:
// no deadline but the relay's own applies.
func (c *conn) begin() error {
	c.srv.trust(c)
	if err := c.nc.SetDeadline(time.Time{}); err != nil {
		return refuse(ConnectionLost, err)
	}
	if err := c.upstream.SetDeadline(time.Time{}); err != nil {
		return refuse(UpstreamUnavailable, err)
	}
	s, srv := c.session, c.srv
	s.ticket = c.ticket
	srv.rechecks.join(c, c.request())
	if hook := srv.Trace.Opened; hook != nil {
		hook(c.client)
	}
	srv.sessions.Add(1)
	// A second CONNECT would be a login that nobody has checked.
	s.framers[0].Forbidden, s.framers[0].Level = packets.CONNECT, c.level
	pair := relay.Pair{
		Client:       c.nc,
		Upstream:     c.upstream,
		FromClient:   &s.framers[0],
		FromUpstream: &s.framers[1],
		Done:         s.ended,
	}
	c.inspect(&pair)
	s.start(srv.relay(), pair)
	return nil
}

// abandon gives back what a connection that is refused has taken.
func (c *conn) abandon() {
	if c.upstream != nil {
		c.upstream.Close()
	}
	if c.check != nil {
		c.srv.registry.endCheck(c.check)
	}
	if c.session != nil {
		c.session.unregister()
	}
}

// survive keeps a bug in the handling of one connection from ending the process.
func (c *conn) survive() {
	if !c.srv.survive(recover()) {
		return
	}
	c.abandon()
	c.refuse(refuse(Internal, nil))
	c.srv.admission.leave(c)
}
