// Package pool spreads sessions over several brokers and avoids those that do not answer.
//
//	p := pool.New(pool.Options{Servers: servers, Dial: dialer.Dial})
//	go p.Run(ctx)
//	policy.Upstream = p // of a proxy.Policy
//
// # Which server
//
// [ClientID] gives every client id one server (rendezvous hashing), so that a persistent
// session always reaches the broker that stores it. Every proxy with the same list of servers
// chooses the same one; the order of the list does not matter. If a server fails or is removed,
// only its own clients move to another. When it is back, they return the next time they
// connect. [LeastConnections] chooses the server with the fewest sessions of this process, and
// [RoundRobin] chooses the servers in turn. Each takes the weights of the servers into account.
// With [ClientID] a weight that changes moves only the clients that the server gains or loses.
//
// A backup gets a session only if no server that is no backup is up, or if all of them have failed
// for that session. Its sessions stay there when the others are back, until their devices connect
// again.
//
// A server that is drained ([Pool.Drain]) gets no session at all, not even as the last resort.
//
// # One session
//
// A server that refuses the connection, does not finish TLS in time, or takes the CONNECT and
// does not answer it, is skipped, and the next one is tried. All attempts together must end by
// the deadline of the context. An attempt gets an equal share of the time that is left when it
// begins. Any CONNACK, even a refusal, is an answer, and no other server is tried after it.
//
// It is safe to send the CONNECT again to another broker, because nothing else has been sent
// for the session: packets that the device sends early wait in its socket. If the first broker
// was only slow, it gets a DISCONNECT (see proxy.Greet).
//
// # Up and down
//
// A server is down after Options.Failures failures in a row; both sessions and probes count. A
// session that was cancelled, or that failed because this process ran out of descriptors or
// ports, does not count as a failure of the server.
//
// A server that took a connection and did not answer the CONNECT may be dead, or may refuse
// that one CONNECT: many brokers refuse by closing the connection. So the pool sends a CONNECT
// of its own at once, at most one per second. The server goes down only if it does not answer
// that CONNECT either and, unless Health.MQTT is set, has not answered any session for ten
// seconds. A device therefore cannot make a server look down to others by sending a bad
// CONNECT.
//
// Sessions do not try a server that is down. The pool probes it with a jittered pause that
// doubles from one second to thirty seconds. The probe includes a CONNECT if the server went
// down because it accepted connections and did not answer. The first success brings the server
// up again. With [LeastConnections] and [RoundRobin] it gets its full share only after the slow
// start.
//
// If no server that is up has answered, servers that are down are the last resort. At most
// sixteen sessions, each with a different subject, try them at the same time; all other
// sessions fail at once, so that their devices soon try again. No device is locked out: the
// first session that gets an answer brings the server up for all.
//
// # Probes
//
// The pool probes a server that has not answered anything for Health.Interval. It connects,
// with TLS if the server has it, and sends a CONNECT if Health.MQTT is set. The only server of
// a pool is probed only while it is down or has not answered, since there is no choice.
//
// # Sessions on a dead server
//
// If the network drops packets, existing sessions notice it only after minutes. Trace.Lost is
// called when a server has failed Options.Failures probes in a row and another server answers
// at that moment. The answer shows that this machine is not cut off, so ending the sessions of
// the dead server lets their devices reconnect through another one.
//
// # Reload
//
// A new pool with Options.Previous takes over the state and the sessions of the servers that
// are in both pools: a [proxy.Link] outlives its pool. Run of the old pool ends with its
// context; its Connect keeps working.
package pool
