package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// endingFramer follows packets as lengthFramer does. "bye" is the last packet, and
// "bad" is refused.
type endingFramer struct{ lengthFramer }

func (f *endingFramer) Advance(b []byte) (int, error) {
	at := 0
	for {
		rest := b[at:]
		switch {
		case f.AtBoundary() && bytes.HasPrefix(rest, packet("bye")):
			return at + len(packet("bye")), io.EOF
		case f.AtBoundary() && bytes.HasPrefix(rest, packet("bad")):
			return at, errNotAPacket
		case len(rest) == 0:
			return at, nil
		}
		_, _ = f.lengthFramer.Advance(rest[:1])
		at++
	}
}

func (f *endingFramer) Refusal(error) []byte { return packet("why") }

// The side that sends its last packet first ends the pair, also if the other side closes first.
// Nothing that follows that packet is passed on.
func TestLastPacketEndsPair(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.pair.FromClient, r.pair.FromUpstream = &endingFramer{}, &endingFramer{}
		r.start()
		sent := append(packet("message"), packet("bye")...)
		r.send(r.device, append(bytes.Clone(sent), packet("never mind")...))
		r.expectEnd(r.broker, string(sent))
		r.send(r.broker, packet("answer"))
		r.broker.Close()
		r.expectEnd(r.device, string(packet("answer")))
		r.device.Close()
		want := Result{Up: int64(len(sent)), Down: int64(len(packet("answer"))), By: Client}
		if got := r.end(); got != want {
			t.Errorf("result %+v, want %+v", got, want)
		}
	})
}

func TestLastPacketOfUpstreamEndsPair(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.pair.FromClient, r.pair.FromUpstream = &endingFramer{}, &endingFramer{}
		r.start()
		r.send(r.broker, append(packet("message"), packet("bye")...))
		r.expectEnd(r.device, string(packet("message"))+string(packet("bye")))
		r.device.Close()
		r.expectEnd(r.broker, "")
		r.broker.Close()
		if got := r.end(); got.By != Upstream || got.Err != nil {
			t.Errorf("result %+v, want an orderly end by the upstream", got)
		}
	})
}

// The bytes before a packet that the framer refuses are passed on, and so are the upstream's
// answers to them, before the client gets the reason.
func TestBytesBeforeRefusalArrive(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.pump.Grace = time.Minute
		r.pair.FromClient, r.pair.FromUpstream = &endingFramer{}, &endingFramer{}
		r.start()
		r.send(r.device, append(packet("message"), packet("bad")...))
		r.expectEnd(r.broker, string(packet("message")))
		r.send(r.broker, packet("answer"))
		r.broker.Close()
		r.expectEnd(r.device, string(packet("answer"))+string(packet("why")))
		r.device.Close()
		if got := r.end(); got.By != Client || !errors.Is(got.Err, errNotAPacket) {
			t.Errorf("result %+v, want a refusal", got)
		}
	})
}

func TestBytesOfUpstreamBeforeRefusalArrive(t *testing.T) {
	eachTransport(t, func(t *testing.T, r *rig) {
		r.pair.FromClient, r.pair.FromUpstream = &endingFramer{}, &endingFramer{}
		r.start()
		r.send(r.broker, append(packet("message"), packet("bad")...))
		r.expectEnd(r.device, string(packet("message")))
		r.device.Close()
		r.expectEnd(r.broker, "")
		if got := r.end(); got.By != Upstream || !errors.Is(got.Err, errNotAPacket) {
			t.Errorf("result %+v, want a refusal", got)
		}
	})
}

// panickingFramer, panickingFilter and panickingLayer have a bug.
type panickingFramer struct{ lengthFramer }

func (*panickingFramer) Advance([]byte) (int, error) { panic("bug in a framer") }

func panickingFilter([]byte) (pass, back []byte, err error) { panic("bug in a filter") }

type panickingLayer struct {
	Conn
	read, write, end bool
}

func (l *panickingLayer) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if l.read && n > 0 {
		panic("bug in reading")
	}
	return n, err
}

func (l *panickingLayer) Write(b []byte) (int, error) {
	if l.write {
		panic("bug in writing")
	}
	return l.Conn.Write(b)
}

func (l *panickingLayer) CloseWrite() error {
	if l.end {
		panic("bug at the end")
	}
	return l.Conn.CloseWrite()
}

// A panic ends the pair that it belongs to, and no other; it is reported once.
func TestPanicEndsOnePair(t *testing.T) {
	layer := func(bug panickingLayer) func(r *rig) {
		return func(r *rig) {
			bug.Conn = r.pair.Client.Conn
			r.pair.Client.Conn = &bug
		}
	}
	bugs := map[string]func(r *rig){
		"framer up":   func(r *rig) { r.pair.FromClient = &panickingFramer{} },
		"framer down": func(r *rig) { r.pair.FromUpstream = &panickingFramer{} },
		"filter up":   func(r *rig) { r.pair.FilterUp = filterFunc(panickingFilter) },
		"filter down": func(r *rig) { r.pair.FilterDown = filterFunc(panickingFilter) },
		"TLS read":    layer(panickingLayer{read: true}),
		"TLS write":   layer(panickingLayer{write: true}),
	}
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for name, bug := range bugs {
			t.Run(name, func(t *testing.T) {
				p := newPump()
				var panics atomic.Int32
				p.Panicked = func(any, []byte) { panics.Add(1) }
				other := newRig(t, p, "tls1.3", "tcp").framed().start()
				r := newRig(t, p, "tls1.3", "tcp").framed()
				bug(r)
				r.start()
				r.send(r.device, packet("up"))
				r.send(r.broker, packet("down"))
				if got := r.end(); got.By != NoSide || got.Err != ErrPanic {
					t.Errorf("result %+v, want %v", got, ErrPanic)
				}
				r.send(other.device, packet("message"))
				r.expect(other.broker, string(packet("message")))
				if n := panics.Load(); n != 1 {
					t.Errorf("%d panics were reported, want 1", n)
				}
			})
		}
	})
}

// A panic at the very end does not keep a pair from ending.
func TestPanicAtTheEnd(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		p := newPump()
		var panics atomic.Int32
		p.Panicked = func(any, []byte) { panics.Add(1) }
		r := newRig(t, p, "tls1.3", "tcp").framed()
		r.pair.Client.Conn = &panickingLayer{Conn: r.pair.Client.Conn, end: true}
		done := make(chan Result, 1)
		r.pair.Done = func(got Result) {
			done <- got
			panic("bug in Done")
		}
		p.Start(r.pair)
		closeWrite(t, r.device)
		r.expectEnd(r.broker, "")
		r.broker.Close()
		if got := <-done; got.By != Client || got.Err != nil {
			t.Errorf("result %+v, want an orderly end by the client", got)
		}
		p.Wait()
		if n := panics.Load(); n != 2 {
			t.Errorf("%d panics were reported, want 2", n)
		}
	})
}

// panickingCloser is a connection whose Close has a bug.
type panickingCloser struct{ net.Conn }

func (c panickingCloser) Close() error {
	_ = c.Conn.Close()
	panic("bug in Close")
}

// A panic while the connections are closed is reported, and so is the result.
func TestPanicWhileClosing(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		p := newPump()
		var panics atomic.Int32
		p.Panicked = func(any, []byte) { panics.Add(1) }
		r := newRig(t, p, "tcp", "tcp")
		r.pair.Upstream = NewStack(panickingCloser{r.pair.Upstream.Socket.Conn})
		r.start()
		r.device.Close()
		r.broker.Close()
		if got := r.end(); got.Err != nil {
			t.Errorf("result %+v, want an orderly end", got)
		}
		p.Wait()
		if n := panics.Load(); n != 1 {
			t.Errorf("%d panics were reported, want 1", n)
		}
	})
}
