package relay

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStalled is the error of a pair one side of which took no byte for [Pump.WriteTimeout].
var ErrStalled = errors.New("peer stopped reading")

// Side names one of the two ends of a pair.
type Side uint8

// The sides. NoSide is the side of a pair that [Session.Cut] has ended.
const (
	NoSide Side = iota
	Client
	Upstream
)

// String returns the side's name in lower case.
func (s Side) String() string { return [...]string{"proxy", "client", "upstream"}[min(s, Upstream)] }

func (s Side) other() Side { return Client + Upstream - s }

// ErrPanic is the error of a pair that a panic in one of its goroutines has ended.
var ErrPanic = errors.New("internal error")

// Framer follows the packets of one direction, so that the packet of a [CloseNotice] is sent
// between two packets and never inside one.
type Framer interface {
	// Advance gets every byte before it is passed on, in order and in arbitrary pieces. It
	// returns how many bytes of b are passed on, which is all of them unless there is an
	// error. An error ends the pair after those bytes. [io.EOF] means that the source has
	// sent its last packet and has ended in order.
	Advance(b []byte) (n int, err error)
	// AtBoundary reports whether the bytes so far end with a whole packet, after which
	// another packet may be sent.
	AtBoundary() bool
}

// Refuser is an optional interface of the [Framer] of what the client sends.
type Refuser interface {
	// Refusal returns the last packet for the client if Advance has returned err. It says
	// why, and may be nil.
	Refusal(err error) []byte
}

// Pair describes the two connections that [Pump.Start] takes over. Neither may have a deadline
// set, and no goroutine may read from one.
type Pair struct {
	// Client and Upstream are the connections. The pump owns and closes them. Their addresses
	// may be unknown afterwards, so the caller must read them before.
	Client, Upstream Stack
	// FromClient and FromUpstream follow the packets of their direction. Without one, the
	// receiver of that direction gets no last packet.
	FromClient, FromUpstream Framer
	// FilterUp and FilterDown, if not nil, filter what the client and the upstream send,
	// before it gets to the framers.
	FilterUp, FilterDown Filter
	// PaceUp, if not nil, holds what the client sends to a rate, before FilterUp gets it.
	PaceUp Pacer
	// Done, if not nil, is called once, when nothing of the pair is left. It must not wait: a loop
	// that calls it serves other pairs, too.
	Done func(Result)
}

// Result is how a pair ended.
type Result struct {
	// Up and Down are the bytes that were written to the upstream and to the
	// client.
	Up, Down int64
	// By is the side that ended the pair: the one that closed first, that sent its last
	// packet first, or that caused a fault.
	By Side
	// Err is nil if that side ended in order, the Err of the [CloseNotice] if the pair was
	// cut, and otherwise the fault.
	Err error
}

// CloseNotice says how [Session.Cut] ends a pair.
type CloseNotice struct {
	// Client and Upstream are whole packets, which are sent to that side before its
	// connection is closed, unless a part of another packet has been sent. Each may be nil.
	Client, Upstream []byte
	// Flush lets the upstream finish. It gets an end of stream, and what it still sends
	// within half of [Pump.Grace] is passed on before the client's last packet.
	Flush bool
	// Err becomes the result's Err.
	Err error
}

// Pump relays pairs. The zero value is ready to use. Its fields must not change after the first
// Start.
type Pump struct {
	// WriteTimeout is how long a side may take no byte while there is something to send to
	// it; 0 means 60 s.
	WriteTimeout time.Duration
	// Linger is how long the upstream may go on after the client has ended; 0 means
	// 10 s.
	Linger time.Duration
	// Grace is how long it may take to cut a pair, last packets included, and how long the
	// client may go on after the upstream has ended; 0 means 1 s.
	Grace time.Duration

	// QuietAfter is how long a pair must be idle before it gives up its goroutines, buffers
	// and connections for a place in an event loop; 0 means 2 s. It may take twice as long.
	QuietAfter time.Duration
	// Goroutines keeps two goroutines for every pair instead, which is the only way on
	// systems other than Linux.
	Goroutines bool
	// Panicked, if not nil, is called with every panic that has ended a pair.
	Panicked func(value any, stack []byte)
	// HoldThread lets a loop wait for the next event on its thread, for 20 milliseconds at
	// most, instead of giving up its processor after every message. That halves the cost of
	// a message, but takes the processor away from other goroutines. So GOMAXPROCS must be
	// larger by [EventLoops] than the number of processors that the process is to use.
	HoldThread bool

	live        sync.WaitGroup
	buffers     buffers
	pipes       pipes
	clock       func() time.Time // for pacers; nil means time.Now
	held, holds atomic.Int64
	quiet       atomic.Int64
	escalations atomic.Int64
	anyBusy     atomic.Bool // busy is not empty

	mu       sync.Mutex // guards the following fields; locked after a session's mu
	sessions int
	busy     map[*Session]struct{} // pairs that can be parked and are not
	timer    *time.Timer
	sweeping bool
	loops    []*loop
	next     int
}

// Stats describes the pairs of a pump.
type Stats struct {
	// Quiet is the number of pairs that wait in an event loop, and Busy the number of those
	// that have goroutines.
	Quiet, Busy int
	// Escalations counts how often a quiet pair got its goroutines back.
	Escalations int64
	// Held is the number of pairs of which something waits because of the [Pacer], and Holds
	// how often that began.
	Held  int
	Holds int64
}

// Stats returns the current numbers. It may be called from any goroutine.
func (p *Pump) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	quiet := int(p.quiet.Load())
	return Stats{
		Quiet: quiet, Busy: max(0, p.sessions-quiet), Escalations: p.escalations.Load(),
		Held: int(p.held.Load()), Holds: p.holds.Load(),
	}
}

func (p *Pump) now() time.Time {
	if p.clock != nil {
		return p.clock()
	}
	return time.Now()
}

func (p *Pump) writeTimeout() time.Duration { return cmp.Or(p.WriteTimeout, 60*time.Second) }
func (p *Pump) linger() time.Duration       { return cmp.Or(p.Linger, 10*time.Second) }
func (p *Pump) grace() time.Duration        { return cmp.Or(p.Grace, time.Second) }
func (p *Pump) quietAfter() time.Duration   { return cmp.Or(p.QuietAfter, 2*time.Second) }

// Start takes over both connections of pair and returns at once. It may be called from any
// goroutine, but not after Wait.
func (p *Pump) Start(pair Pair) *Session {
	s := &Session{pump: p, done: pair.Done}
	s.client, s.upstream = pair.Client, pair.Upstream
	s.up.from, s.up.to, s.up.side, s.up.framer = &s.client, &s.upstream, Client, pair.FromClient
	s.down.from, s.down.to, s.down.side, s.down.framer = &s.upstream, &s.client, Upstream, pair.FromUpstream
	filterPair(&s.up, &s.down, pair)
	if pair.PaceUp != nil {
		s.up.paced = &paced{pacer: pair.PaceUp, pump: p}
	}
	s.running.Store(2)
	p.live.Add(1)
	p.mu.Lock()
	p.sessions++
	p.mu.Unlock()
	if s.canPark() {
		s.startQuiet()
	} else {
		s.attach()
		go s.runUp()
		go s.runDown()
	}
	return s
}

// forget removes s. With the last session the loops end, too.
func (p *Pump) forget(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, s)
	p.anyBusy.Store(len(p.busy) > 0)
	if len(p.busy) == 0 && p.timer != nil {
		p.timer.Stop()
		p.sweeping = false
	}
	if p.sessions--; p.sessions > 0 {
		return
	}
	for _, l := range p.loops {
		l.stop()
	}
	p.loops = nil
	p.pipes.drop()
}

// Wait returns when every pair has ended and its Done has returned.
func (p *Pump) Wait() { p.live.Wait() }
