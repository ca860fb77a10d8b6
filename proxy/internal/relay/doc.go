// Package relay moves bytes between a client and its upstream until one of them
// ends.
//
// A [Pump] is handed both connections and a callback and returns at once; the
// goroutine that accepted the connection can end:
//
//	session := pump.Start(relay.Pair{Client: c, Upstream: u, Done: ended})
//	...
//	session.Cut(relay.Farewell{Client: disconnect, Err: errRevoked})
//
// Rules that callers rely on:
//
//   - Every byte a side sent before its end reaches the other side, in order, before
//     that side sees the end. A DISCONNECT right before a FIN arrives.
//   - A side ends with its end of stream, or with the packet that its [Framer] takes
//     for the last one: what follows that is ignored. The end is passed on as an end of
//     stream (half close). An upstream then has [Pump.Linger] to finish; a client has
//     [Pump.Grace], since a broker that has ended does not listen any more. A receiver
//     that cannot be told ends the pair.
//   - The side that ended first has ended the pair ([Result.By]). That is decided
//     before the other side is told, and may close, too.
//   - What a [Framer] or a [Filter] refuses ends the pair after all that came before it
//     has been passed on. If the client sent it, the upstream has half of the grace to
//     answer, and then the client is told why.
//   - A side that takes no byte for [Pump.WriteTimeout] ends the pair. Until then
//     nothing is read from the other side either: memory stays bounded by one
//     buffer a direction. That holds for a filter's answers, too.
//   - A [Framer] follows what is passed on, so that a farewell never lands inside a
//     packet; a [Filter] may change what is passed on, or answer it.
//   - A panic in what serves a pair, its framers, filters and layers included, ends that
//     pair with [ErrPanic], and no other.
//   - Done is called exactly once, when both connections are closed and nothing of
//     the pair runs any more.
//
// # How it waits
//
// A direction that has nothing to move holds no buffer. It parks in the runtime's
// poller through [syscall.RawConn] and borrows a buffer when the socket is
// readable; whatever is ready is gathered and written with one call. For TLS the
// records are read by crypto/tls from a [Socket], which answers "not now" instead
// of blocking; crypto/tls keeps a half-read record and goes on later. That
// depends on two facts of crypto/tls which the tests pin: a read error with
// Temporary() == true is not latched, and EAGAIN is such an error. Write errors
// are latched always, so a write never says "not now".
//
// On Linux, bulk between two plain sockets passes by a pipe inside of the kernel, once
// a chunk was full: as far as the framer says that a packet's body goes on (see
// [Skipper]), or without end where there is no framer. A pipe is borrowed only while
// bytes flow.
//
// On Linux a pair that has been idle for [Pump.QuietAfter] is parked: it gives up
// its goroutines, its buffers and the net.Conn, and keeps two descriptors in an event
// loop (see loop_linux.go for how that waits). There, what is small and can be passed
// on at once is. Anything else,
// an end of stream, an error, a receiver that does not take all, more than fits
// into a buffer, a Cut, gives the pair its goroutines back. So everything hard
// happens in one place, and the loop has no state of its own. A pair with a filter may
// fill only a small buffer, since all others wait while the filter works.
//
// While crypto/tls reads, it works on a buffer lent to it for the moment; see
// lend.go for why and for what happens if a Go release does not allow that.
//
// What is said of TLS holds for every connection over a [Socket] that says what it
// stands on (NetConn) and can end its half (CloseWrite), WebSocket over TLS for
// example. It must pass "not now" on, lose nothing by it, and hold back nothing that
// it has read. Any other connection works as well, with a small buffer that it keeps
// while it waits.
package relay
