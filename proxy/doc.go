// Package proxy connects MQTT clients that have a good token, or a good user name and password,
// to a broker, and refuses all others.
//
// A [Server] reads one packet of a connection, the CONNECT, asks an [authz.Authorizer]
// about the token in it, replaces the credentials, passes the CONNECT to a broker and the
// broker's CONNACK to the client, and relays bytes from then on:
//
//	srv := &proxy.Server{Trace: trace}
//	err := srv.SetPolicy(&proxy.Policy{Authorizer: source, Upstream: proxy.DialFunc(dial)})
//	...
//	go srv.Watch(ctx, source)
//	go srv.Serve(&proxy.Listener{Listener: ln, Name: "mqtts", TLS: config})
//	...
//	err = srv.Shutdown(ctx)
//
// # What a program that embeds the proxy must do
//
//   - Call [Server.Watch] for every Authorizer that is an [authz.Notifier]. Otherwise a
//     session goes on after its token was revoked. Where nothing reports revocations, set
//     [Policy].Recheck, or end sessions with [Server.Kick].
//   - Set [Limits] in the policy. The zero value bounds neither connections nor
//     descriptors.
//   - Set [Policy].Rewrite if the broker authenticates clients. The broker gets no
//     credentials of the client, and no others unless Rewrite fills them in.
//   - Keep clients from reaching the broker in any other way.
//   - Set the hooks of a [Trace]. The package logs nothing itself.
//   - End with [Server.Shutdown] or [Server.Close]. Both return once everything is closed.
//
// # The nine steps of a connection
//
//  1. Accept: the limits on connections, on file descriptors and on new connections a
//     second apply. If the listener requires it, the PROXY protocol header of a load
//     balancer says whose connection it is.
//  2. Transport: the TLS handshake, of which a bounded number runs at a time, and the
//     upgrade to WebSocket.
//  3. CONNECT: one packet, parsed strictly, bounded in size and time.
//  4. Token: it is looked for in the places that the policy lists.
//  5. Authorize: the Authorizer decides, then the conditions of its grant. With a good
//     answer the connection is a session.
//  6. Rewrite: the client's credentials are taken out of the CONNECT and those for the
//     broker put in. Topic rules are bound to the session and applied to the will.
//  7. Connect: only now a connection to a broker is opened and the CONNECT sent. An
//     [Upstream] with several brokers may try another one as long as none has answered.
//  8. CONNACK: the broker's answer is passed on to the client.
//  9. Relay: bytes are passed on until one side closes or the session is cut.
//
// Accept comes first for a reason: until the CONNECT has been read a connection has one
// absolute deadline, costs a bounded amount of memory, and is pending. If there are too
// many pending connections, the oldest one of the address that has most of them is
// closed to make room, see [Limits].
//
// A connection that fails before the relay is refused for a [Reason]. One table, see
// [Reasons], has the CONNACK that the client gets, whose fault the refusal is, and how
// severe.
//
// # Sessions
//
// A connection whose token is good is a session. [Server.Clients] lists it, and
// [Server.Kick] ends it. A Kick also applies to connections whose token is being checked
// at that moment: if it matches them afterwards, they are checked again. So no grant is
// used that was withdrawn while it was on its way.
//
// The grant of a session can change: a recheck and an [authz.Notifier] bring a new one for the
// same token, and a client of MQTT 5.0 whose token is its authentication data sends a new token
// by AUTH. Expiry, topic rules, topic map and limits then change under the session. If that is
// not possible without taking something from the client, the session ends.
//
// # Changes at run time
//
// A [Policy] is immutable and replaced as a whole by [Server.SetPolicy]; a connection
// keeps the policy that it began with. [Listener.Update] replaces the settings of a
// listener without closing its socket.
//
// # Locks
//
// A goroutine that holds one of these locks may only take one that stands further right,
// and holds at most one of each column:
//
//	registry.mu, rechecks.mu, rules.mu  ->  session.mu  ->  relay.Session.mu
//	  ->  relay.Pump.mu, renewal.mu, inspect.Control.mu
//
// Server.mu, admission.mu, acceptances.mu and revocations.mu are never held together with
// another lock of this package. Functions of the embedding program are called without
// locks, with two exceptions: the match function of [Server.Kick], under registry.mu, and
// Trace.Denied, under relay.Session.mu.
package proxy
