package relay

import (
	"cmp"
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

func (s Side) other() Side { return Client + Upstream - s }

// ErrPanic is the end of a pair in whose service a bug made a goroutine panic.
var ErrPanic = errors.New("internal error")

// Framer follows the packets of one direction. It lets a [CloseNotice] be sent
// between two packets and never inside one.
type Framer interface {
	// Advance is shown every byte, in order and in arbitrary pieces, before it is
	// passed on, and returns how many bytes of b are passed on: all of them without
	// an error. An error ends the pair after that. [io.EOF] means that the source
	// has sent its last packet, which is an orderly end.
	Advance(b []byte) (n int, err error)
	// AtBoundary reports whether the bytes so far end with a whole packet that
	// another may follow.
	AtBoundary() bool
}

// Refuser is an optional power of a [Framer] of what the client sends.
type Refuser interface {
	// Refusal returns the packet that tells the client why Advance has returned
	// err, or nil. It becomes the client's close notice.
	Refusal(err error) []byte
}

// Pair is what a [Pump] is handed. Neither connection may have a deadline set
// or a read pending.
type Pair struct {
	// Client and Upstream are sockets, TLS connections over a [Socket], or any
	// other net.Conn. The pump owns and closes them. They may forget their
	// addresses: ask before.
	Client, Upstream net.Conn
	// FromClient and FromUpstream follow the packets of their direction; nil
	// where boundaries are not known, and then that direction's receiver gets no
	// close notice.
	FromClient, FromUpstream Framer
	// FilterUp and FilterDown, if not nil, are shown what the client and the
	// upstream sent, before the framers are.
	FilterUp, FilterDown Filter
	// Done is called once, at the very end.
	Done func(Result)
}

// Result is how a pair ended.
type Result struct {
	// Up and Down are the bytes that were written to the upstream and to the
	// client.
	Up, Down int64
	// By is the side that ended it: the one that closed first, sent its last packet
	// first, or is at fault.
	By Side
	// Err is nil if that side ended in order, the Err of the [CloseNotice] if the
	// pair was cut, else the fault.
	Err error
}

// CloseNotice is how a live pair is cut.
type CloseNotice struct {
	// Client and Upstream are whole packets sent to that side if it stands
	// between two packets, before it is closed.
	Client, Upstream []byte
	// Flush lets the upstream finish: it is told that nothing more will come, and
	// what it still has for the client, within half of [Pump.Grace], is passed on
	// before the client's close notice.
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
	// Linger is how long the upstream may go on after the client has ended; 0 means
	// 10 s.
	Linger time.Duration
	// Grace is how long cutting a pair may take, close notices included, and how long the
	// client may go on after the upstream has ended; 0 means 1 s.
	Grace time.Duration

	// QuietAfter is how long a pair must have nothing to do before its goroutines,
	// buffers and connections are given up for a place in an event loop; 0 means
	// 2 s. It may take twice as long.
	QuietAfter time.Duration
	// Goroutines keeps two goroutines for every pair instead. Off Linux there is
	// nothing else.
	Goroutines bool
	// Panicked, if not nil, is called with every panic that has ended a pair.
	Panicked func(value any, stack []byte)
	// HoldThread lets a loop wait on its thread, for 20 milliseconds at most, for
	// what comes next, instead of giving its processor back after every message.
	// That halves the cost of a message, but takes the processor away from other
	// goroutines: the process must have [EventLoops] more (GOMAXPROCS) than it is
	// meant to use.
	HoldThread bool

	live        sync.WaitGroup
	buffers     buffers
	pipes       pipes
	quiet       atomic.Int64
	escalations atomic.Int64
	anyBusy     atomic.Bool // of those in busy

	mu       sync.Mutex // guards what follows; taken after a session's
	sessions int
	busy     map[*Session]struct{} // that can be parked and are not
	timer    *time.Timer
	sweeping bool
	loops    []*loop
	next     int
}

// Stats is what a pump does just now.
type Stats struct {
	// Quiet pairs wait in an event loop, Busy ones have goroutines.
	Quiet, Busy int
	// Escalations is how often a quiet pair got its goroutines back, since the
	// beginning.
	Escalations int64
}

// Stats may be called from any goroutine.
func (p *Pump) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	quiet := int(p.quiet.Load())
	return Stats{Quiet: quiet, Busy: max(0, p.sessions-quiet), Escalations: p.escalations.Load()}
}

func (p *Pump) writeTimeout() time.Duration { return cmp.Or(p.WriteTimeout, 60*time.Second) }
func (p *Pump) linger() time.Duration       { return cmp.Or(p.Linger, 10*time.Second) }
func (p *Pump) grace() time.Duration        { return cmp.Or(p.Grace, time.Second) }
func (p *Pump) quietAfter() time.Duration   { return cmp.Or(p.QuietAfter, 2*time.Second) }

// Start takes over both connections of pair and returns at once. It may be
// called from any goroutine, but not after Wait.
func (p *Pump) Start(pair Pair) *Session {
	s := &Session{pump: p, done: pair.Done}
	s.client, s.upstream = newEnd(pair.Client), newEnd(pair.Upstream)
	s.up.from, s.up.to, s.up.side, s.up.framer = &s.client, &s.upstream, Client, pair.FromClient
	s.down.from, s.down.to, s.down.side, s.down.framer = &s.upstream, &s.client, Upstream, pair.FromUpstream
	filterPair(&s.up, &s.down, pair)
	s.running.Store(2)
	p.live.Add(1)
	p.mu.Lock()
	p.sessions++
	p.mu.Unlock()
	if s.canPark() {
		s.startQuiet()
	} else {
		s.client.socket.attach(p.writeTimeout())
		s.upstream.socket.attach(p.writeTimeout())
		go s.runUp()
		go s.runDown()
	}
	return s
}

// forget removes s. The last one ends the loops.
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
