// Package pool spreads sessions over several brokers and avoids those that do not answer.
//
//	p := pool.New(pool.Options{Servers: servers, Dial: dialer.Dial})
//	go p.Run(ctx)
//	policy.Upstream = p // of a proxy.Policy
//
// # Which server
//
// [ClientID] gives every client id one server (rendezvous hashing), so that a
// persistent session finds the broker that keeps it, from every proxy with the same
// servers, in whatever order they are listed. If a server fails or is taken out,
// only its own clients move; if it comes back, they return when they next connect.
// [LeastConnections] chooses the server with the fewest sessions of this process,
// [RoundRobin] one after the other.
//
// # One session
//
// A server that refuses the connection, does not finish TLS in time, or takes the
// CONNECT and does not answer it, is skipped, and the next one is tried. All attempts together
// have to end by the deadline of the context: each gets an equal share of the time that is
// left when it begins. A CONNACK of any kind is an answer, after which no other is tried.
//
// It is safe to send the CONNECT again to another broker: nothing else of the session has been
// sent yet, and what the device sends early waits in its socket. A broker that was only slow
// gets a DISCONNECT (see proxy.Greet).
//
// # Up and down
//
// A server is down after Options.Failures failures in a row, of sessions and of probes alike. A
// lack of descriptors or ports in this process, and sessions that were cancelled, do not count
// as failures of the server.
//
// A server that took a connection and did not answer the CONNECT may be dead, or may refuse
// that one CONNECT: many brokers close the connection for it. So the pool sends a CONNECT of
// its own at once, at most one a second. The server can only go down if that is not answered
// either and, unless Health.MQTT is set, no session has been answered for ten seconds. So no
// device can take a server from the others by what it sends.
//
// No session tries a server that is down. The pool itself tries it, again and again
// with a pause that doubles from one second to thirty, jittered, and by a CONNECT of
// its own if the server had taken connections and not answered. The first success
// makes it up again. Under the balances that look at load it then gets its full
// share only after the slow start.
//
// If nothing that is up has answered, servers that are down are the last resort: a
// session tries them at once, but at most sixteen do at the same time, each for
// another subject. The others fail at once, so that a whole fleet learns quickly that it has
// to try again. No device is locked out: the first session that gets an answer makes the
// server up for all.
//
// # Probes
//
// The pool probes a server that has not answered anything for Health.Interval. It connects,
// with TLS if the server has it, and sends a CONNECT if Health.MQTT is set. The only server of
// a pool is probed only while it is down or has not answered, since there is no choice.
//
// # Sessions on a dead server
//
// If the network swallows packets, live sessions notice after minutes. Trace.Lost is
// called when a server has failed as many probes in a row as make it down, and
// another server has answered at that very moment: then it is not this machine that
// is cut off, and its sessions are better ended so that their devices come back by
// the other one.
//
// # Reload
//
// A new pool that is given the previous one takes over what is known of the servers
// in both, and their sessions: a [proxy.Link] outlives its pool. Run of the old pool ends
// with its context; Connect goes on working.
package pool
