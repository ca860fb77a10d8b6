package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// conn is one connection from accept until the relay has it. Each stage fills in its own
// value and reads those before it.
type conn struct {
	srv      *Server
	policy   *installed
	listener *listenerSettings
	ctx      context.Context
	abort    context.CancelCauseFunc // ends ctx

	arrival arrival // before MQTT: the sockets and who is at the other end
	login   login   // from the CONNECT to the session
	link    link    // to the broker
}

// serve takes the connection from accept to the relay or to its refusal. It does not panic.
func (c *conn) serve() {
	defer func() { c.srv.recovered(recover()) }()
	defer c.abort(nil)
	if err := c.establish(); err != nil {
		c.fail(err)
	}
}

// establish is the path from accept to the relay, see the nine steps of the package
// comment. A panic refuses the connection like an error.
func (c *conn) establish() (err error) {
	defer func() {
		if c.srv.recovered(recover()) {
			err = refuse(Internal, nil)
		}
	}()
	if hook := c.srv.Trace.Accepted; hook != nil {
		hook(c.listener.name)
	}
	if err := c.readConnect(); err != nil {
		return err
	}
	if err := c.checkAdmission(); err != nil {
		return err
	}
	if err := c.findCredentials(); err != nil {
		return err
	}
	c.chooseClientID()
	if err := c.authorize(); err != nil {
		return err
	}
	if err := c.bindRights(); err != nil {
		return err
	}
	request, err := c.rewrite()
	if err != nil {
		return err
	}
	if !c.srv.admission.addDescriptors(c, c.policy.Limits.upstreamDescriptors()) {
		return refuse(Busy, errors.New("the limit on file descriptors is reached"))
	}
	if err := c.limitSubject(); err != nil {
		return err
	}
	if err := c.connectUpstream(request); err != nil {
		return err
	}
	return c.startRelay()
}

// startRelay hands both connections to the relay. From here on the client is trusted: the
// only deadlines are those of the relay.
func (c *conn) startRelay() error {
	c.srv.untrackConn(c)
	if err := c.arrival.transport.Conn.SetDeadline(time.Time{}); err != nil {
		return refuse(ConnectionLost, err)
	}
	if err := c.link.conn.SetDeadline(time.Time{}); err != nil {
		return refuse(UpstreamUnavailable, err)
	}
	s, srv := c.login.session, c.srv
	s.ticket = c.arrival.ticket
	srv.rechecks.add(c)
	if hook := srv.Trace.Opened; hook != nil {
		hook(c.login.client)
	}
	srv.sessions.Add(1)
	// A second CONNECT would be a login that was not checked.
	s.framers[0].Forbidden, s.framers[0].Level = packets.ForbidCONNECT, c.login.level
	if c.ownsAuth() {
		s.framers[0].Forbidden |= packets.ForbidAUTH // but for what the filter takes out
		s.framers[1].Forbidden = packets.ForbidAUTH
	}
	pair := relay.Pair{
		Client:       c.arrival.transport,
		Upstream:     relay.NewStack(c.link.conn),
		FromClient:   &s.framers[0],
		FromUpstream: &s.framers[1],
		Done:         s.ended,
	}
	c.addFilters(&pair)
	s.start(srv.relay(), pair)
	return nil
}

// fail gives back everything that the connection has taken, and refuses it for err.
func (c *conn) fail(err error) {
	defer c.srv.admission.release(c)
	defer c.arrival.raw.Close()
	if c.link.conn != nil {
		c.link.conn.Close()
	}
	if c.login.check != nil {
		c.srv.registry.endCheck(c.login.check)
	}
	if c.login.session != nil {
		c.login.session.unregister()
	}
	c.sendRefusal(err)
}
