// Package proxy lets MQTT clients with a good token through to a broker, and
// nobody else.
//
// A [Server] reads exactly one packet of a connection, the CONNECT, asks an
// [authz.Authorizer] about the token in it, replaces the credentials, dials the
// broker, passes the CONNECT and the broker's CONNACK on, and from then on moves
// bytes:
//
//	srv := &proxy.Server{Trace: trace}
//	srv.SetPolicy(&proxy.Policy{Authorizer: source, Dial: dial})
//	go srv.Serve(&proxy.Listener{Listener: ln, Name: "mqtts", TLS: config})
//	...
//	srv.Shutdown(ctx)
//
// # The path of one connection
//
//	accept      limits on connections and on new ones a second, in all and per address
//	header      of a load balancer, if the listener wants one: whose connection it is
//	handshake   TLS, at most so many at a time
//	upgrade     to WebSocket, if the listener is one for that
//	CONNECT     one packet, strict, bounded in size and time
//	token       where the policy says it sits
//	authorize   the Authorizer, then the grant's own conditions
//	rewrite     the CONNECT without the client's credentials, plus the upstream's
//	dial        only now is anything opened towards the broker
//	CONNACK     the broker's answer, passed on; an [Upstream] with several
//	            brokers may try another while there is none
//	relay       bytes, until one side ends or the session is cut
//	close       one call of Trace.Closed
//
// Whatever fails before the relay goes through one table (see [Reason]): it says
// which CONNACK the client gets. Until the CONNECT has been read a connection has
// one absolute deadline and costs a bounded amount of memory. It is pending: where
// there are too many of those, the oldest of the address that has most is closed for a
// newer one, see [Limits].
//
// # Sessions
//
// Once a token is good the connection is a session: it is listed by
// [Server.Clients] and ended by [Server.Kick]. A Kick also reaches connections
// whose token is being checked at that moment: their check is asked again, so that
// no grant is used that was withdrawn while it was on its way.
//
// # Rules
//
// The package logs nothing and knows no configuration: it calls the hooks of a
// [Trace] and takes plain fields. A [Policy] is immutable and swapped as a whole
// with [Server.SetPolicy]; a connection keeps the policy it began with. What a
// [Listener] says is swapped with [Listener.Become], without closing its socket.
package proxy
