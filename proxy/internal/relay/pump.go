package relay

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStalled is the end of a pair one side of which took no byte for the write
// timeout.
var ErrStalled = errors.New("peer stopped reading")

// Side names one of the two ends of a pair.
type Side uint8

// The sides. NoSide stands for "neither": the pair was cut from here.
const (
	NoSide Side = iota
	Client
	Upstream
)

// String returns the side's name in lower case.
func (s Side) String() string { return [...]string{"proxy", "client", "upstream"}[min(s, Upstream)] }

// Framer follows the packets of one direction. It lets a [Farewell] be sent
// between two packets and never inside one.
type Framer interface {
	// Advance is shown every byte, in order and in arbitrary pieces. After an
	// error the direction has no boundaries any more; its bytes still pass.
	Advance(b []byte) error
	// AtBoundary reports whether the bytes so far end with a whole packet.
	AtBoundary() bool
}

// Pair is what a [Pump] is handed. Neither connection may have a deadline set
// or a read pending.
type Pair struct {
	// Client and Upstream are sockets, TLS connections over a [Socket], or any
	// other net.Conn. The pump owns and closes them.
	Client, Upstream net.Conn
	// FromClient and FromUpstream follow the packets of their direction; nil
	// where boundaries are not known, and then that direction's receiver gets no
	// farewell.
	FromClient, FromUpstream Framer
	// Done is called once, at the very end.
	Done func(Result)
}

// Result is how a pair ended.
type Result struct {
	// Up and Down are the bytes that were written to the upstream and to the
	// client.
	Up, Down int64
	// By is the side that ended it.
	By Side
	// Err is nil if that side closed in order, the Err of the [Farewell] if the
	// pair was cut, else the fault.
	Err error
}

// Farewell is how a live pair is cut.
type Farewell struct {
	// Client and Upstream are whole packets sent to that side if it stands
	// between two packets, before it is closed.
	Client, Upstream []byte
	// Flush lets the upstream finish: it is told that nothing more will come, and
	// what it still has for the client is passed on before the client's
	// farewell.
	Flush bool
	// Err becomes the result's Err.
	Err error
}

// Pump runs pairs. The zero value is ready to use; its fields may not change
// after the first Start.
type Pump struct {
	// WriteTimeout is how long a side may take nothing at all while there is
	// something for it; 0 means 60 s.
	WriteTimeout time.Duration
	// Linger is how long the second direction may go on after the first has
	// ended; 0 means 10 s.
	Linger time.Duration
	// Grace is how long cutting a pair may take, farewells included; 0 means
	// 1 s.
	Grace time.Duration

	live sync.WaitGroup
}

func (p *Pump) writeTimeout() time.Duration { return orDefault(p.WriteTimeout, 60*time.Second) }
func (p *Pump) linger() time.Duration       { return orDefault(p.Linger, 10*time.Second) }
func (p *Pump) grace() time.Duration        { return orDefault(p.Grace, time.Second) }

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// Start takes over both connections of pair and returns at once. It may be
// called from any goroutine, but not after Wait.
func (p *Pump) Start(pair Pair) *Session {
	s := &Session{pump: p, done: pair.Done}
	client, upstream := newEnd(pair.Client, p.writeTimeout()), newEnd(pair.Upstream, p.writeTimeout())
	s.up = direction{from: client, to: upstream, side: Client, framer: pair.FromClient}
	s.down = direction{from: upstream, to: client, side: Upstream, framer: pair.FromUpstream}
	s.running.Store(2)
	p.live.Add(1)
	go s.runUp()
	go s.runDown()
	return s
}

// Wait returns when every pair has ended and its Done has returned.
func (p *Pump) Wait() { p.live.Wait() }

// Session is a pair that runs.
type Session struct {
	pump     *Pump
	up, down direction
	done     func(Result)
	running  atomic.Int32
	cut      atomic.Pointer[Farewell]

	mu    sync.Mutex // guards end
	ended bool
	by    Side
	err   error
}

// Bytes returns what has been written to the upstream and to the client so far.
func (s *Session) Bytes() (up, down int64) { return s.up.moved.Load(), s.down.moved.Load() }

// Cut ends the pair from any goroutine and returns at once; Done follows within
// about [Pump.Grace]. Only the first Cut counts. It has no effect on a pair that
// has ended already.
func (s *Session) Cut(f Farewell) {
	if !s.cut.CompareAndSwap(nil, &f) {
		return
	}
	s.conclude(NoSide, f.Err)
	grace := s.pump.grace()
	s.up.from.hurry(grace)
	s.down.from.hurry(grace)
	s.up.from.stopReading()
	if f.Flush {
		s.down.from.readUntil(time.Now().Add(grace))
	} else {
		s.down.from.stopReading()
	}
}

// conclude records the first reason why the pair ends.
func (s *Session) conclude(by Side, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.by, s.err = true, by, err
	}
}

// runUp and runDown have names of their own so that a goroutine dump tells how
// many sessions there are and which way they wait.
func (s *Session) runUp()   { s.run(&s.up, &s.down) }
func (s *Session) runDown() { s.run(&s.down, &s.up) }

// run moves bytes one way until that way ends, then sees to it that the other
// way ends too.
func (s *Session) run(d, other *direction) {
	err := d.copy()
	if f := s.cut.Load(); f != nil {
		s.bidFarewell(d, f)
	} else if err != nil {
		s.conclude(d.blame(err))
		other.from.stopReading()
		d.to.hurry(s.pump.grace())
		d.to.closeWrite()
	} else {
		s.conclude(d.side, nil)
		d.to.closeWrite()
		other.from.readUntil(time.Now().Add(s.pump.linger()))
		// A Cut between the check above and here has had its deadline
		// overwritten.
		if f := s.cut.Load(); f != nil && !f.Flush {
			other.from.stopReading()
		}
	}
	if s.running.Add(-1) == 0 {
		s.finish()
	}
}

// bidFarewell sends the parting packet that the receiver of d is due and tells
// it that nothing more will come.
func (s *Session) bidFarewell(d *direction, f *Farewell) {
	packet := f.Client
	if d.side == Client {
		packet = f.Upstream
	}
	if len(packet) > 0 && d.atBoundary() {
		_, _ = d.to.conn.Write(packet)
	}
	d.to.closeWrite()
}

func (s *Session) finish() {
	defer s.pump.live.Done()
	if s.cut.Load() != nil {
		s.up.from.drain(time.Now().Add(s.pump.grace()))
	}
	s.up.from.close()
	s.down.from.close()
	if s.done != nil {
		s.done(Result{Up: s.up.moved.Load(), Down: s.down.moved.Load(), By: s.by, Err: s.err})
	}
}
