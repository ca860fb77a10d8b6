// Package relay moves bytes between a client and its upstream until one of them ends.
//
// A [Pump] takes over both connections and returns at once. The goroutine that accepted the
// connection can end, and a callback reports the end of the pair:
//
//	session := pump.Start(relay.Pair{
//		Client:   relay.NewStack(c),
//		Upstream: relay.NewStack(u),
//		Done:     ended,
//	})
//	...
//	session.Cut(relay.CloseNotice{Client: disconnect, Err: errRevoked})
//
// Callers can rely on the following rules:
//
//   - Every byte that a side sent before its end reaches the other side, in order, before
//     that side sees the end. A DISCONNECT right before a FIN arrives.
//   - A side ends with its end of stream, or with the packet that its [Framer] reports as the
//     last one; what follows that packet is ignored. The end is passed on as an end of stream
//     (half close). After that, an upstream has [Pump.Linger] to finish, and a client has
//     [Pump.Grace], since a broker that has closed no longer reads. If the receiver's
//     connection has no half close, the pair ends at once.
//   - [Result.By] is the side that ended first. It is decided before the end is passed on,
//     since the other side may close as soon as it sees the end.
//   - If a [Framer] or a [Filter] refuses what a side sent, all that came before is passed on,
//     and the pair ends. If the client sent it, the upstream has half of the grace to answer,
//     and then the client gets the packet that gives the reason.
//   - A side that takes no byte for [Pump.WriteTimeout] ends the pair. Until then nothing is
//     read from the other side, so that memory stays bounded by one buffer per direction.
//     That holds for a filter's answers, too.
//   - A [Pacer] decides how much of what the client sends may be passed on now. Nothing more is
//     read from a client of which something is held, and at most 64 KiB of it wait. The write
//     timeout of the client begins again with the end of a hold, since a simple device does not
//     read while its own write waits. The end of the client comes after all that is held. A
//     pair that ends for another reason drops it.
//   - A [Framer] follows what is passed on, so that the packet of a [CloseNotice] never lands
//     inside another packet. A [Filter] may change what is passed on, or answer it.
//   - A panic in a goroutine of the pair, which includes its framers, filters and layers, ends
//     that pair with [ErrPanic], and no other.
//   - Done is called exactly once, when both connections are closed and no goroutine of the
//     pair runs any more. Other pairs may wait for it.
//
// # States
//
// A pair is in one of four states:
//
//	         nothing to move for QuietAfter     both goroutines have ended
//	running ---------------------------> parking ----------------------> quiet
//	 ^   |                                | |                             | |
//	 |   |                                | | a byte has arrived          | |
//	 +---|--------------------------------|-+                             | |
//	 |   |                                |                               | |
//	 +---|--------------------------------|-------------------------------+ |
//	     |                                |  the loop cannot do it alone    |
//	     | a side has ended, a fault, Cut |                                 |
//	     +--------------------------------+---------------------------------+--> over
//
// In running and parking, each direction has a goroutine that moves its bytes; parking means
// that both have been asked to end, and that one of them may have done so. In quiet no
// goroutine is left, and an event loop serves the pair. In over the result is known. Then the
// loop still serves the pair if all has ended in order, and otherwise both directions have
// goroutines again, or have ended. A new pair begins as quiet where that is possible, and
// otherwise as running.
//
// Session.mu guards the state. What moves bytes in a direction, its leftover included, belongs
// to the direction's goroutine while there is one. A loop, and whatever starts or ends
// goroutines, works on a direction without a goroutine only while it holds Session.mu. The
// locks are taken in this order: Session.mu, then Pump.mu, loop.mu or output.mu. A filter's
// lock comes before Session.mu in a goroutine and after it in a loop, which cannot meet: a loop
// serves only pairs without goroutines. A goroutine in [Session.Send] keeps the pair out of a loop.
//
// # How it waits
//
// A direction that has nothing to move holds no buffer. It waits in the runtime's poller,
// through [syscall.RawConn], and borrows a buffer when the socket is readable. Whatever is
// ready is gathered and written with one call. For TLS, crypto/tls reads the records from a
// [Socket], which returns EAGAIN instead of blocking; crypto/tls keeps a half-read record and
// continues later. That depends on two facts about crypto/tls, which the tests pin: a read
// error with Temporary() == true is not kept for later calls, and EAGAIN is such an error.
// Write errors are always kept, so a write never returns EAGAIN.
//
// On Linux, bulk between two plain sockets goes through a pipe inside the kernel, once a read has
// filled the buffer: for as long as the framer reports that a packet's body goes on (see
// [Skipper]), or without limit where there is no framer. A filter has to agree. A pipe is borrowed
// only while bytes flow.
//
// A goroutine whose client is held waits for a timer. A loop has one timer for all clients that
// it holds, passes over their events, and reads again when their time has come (see
// paced_linux.go). So a pair that has goroutines and is held becomes parking like one that has
// nothing to move, and a client that goes on sending too fast stays in the loop.
//
// On Linux a pair that has been idle for [Pump.QuietAfter] is parked: it gives up its
// goroutines, its buffers and the net.Conn, and keeps two descriptors in an event loop (see
// loop_linux.go for how the loop waits). The loop passes on what is small and can be written
// at once, and ends a pair without a pacer that ends in order (see quietend.go). After
// the DISCONNECT of a client without TLS it does not wait for the client to close. Anything else
// gives the pair its goroutines back: a client with TLS or another layer that has not closed, an
// error, a receiver that does not take everything, more than fits into a buffer, a second side that
// takes too long to end, a Cut. So everything difficult is
// done in one place, and the loop has no states of its own. A pair with a filter
// may fill only a small buffer in one turn of a loop, or complete a TLS record, since all other
// pairs wait while the filter works.
//
// While crypto/tls reads, it works on a buffer that is lent to it for that time; see lend.go
// for the reason, and for what happens if a Go release does not allow that.
//
// What holds for TLS holds for every other layer of a [Stack], for example WebSocket over TLS.
// A connection without a descriptor works as well, with a small buffer that it keeps while it
// waits.
package relay
