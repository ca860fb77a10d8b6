package inspect

import (
	"math"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Pace holds what a client sends to the rates among its limits: the messages and the bytes of a
// second. It counts what arrives, before the filter, so that a message counts that is refused
// later on. A Pace is for one goroutine at a time, and begins with the first byte after the
// CONNECT.
//
// Each rate has a burst, which may go at once after a rest, and goes on evenly after that. So
// that the coarse timers of those who wait cost nothing of the rate, as much as falls due in
// [paceTick] may come on top.
type Pace struct {
	limits   func() authz.Limits
	messages allowance
	bytes    allowance

	// The packet that has begun.
	header uint8 // bytes of the fixed header that have come, 0 outside of it
	left   int   // bytes of the body to come, or the part of the length known so far
	lost   bool  // the length was malformed, which ends the session
}

// NewPace returns a Pace for the limits that a function returns, which may change at any time. See
// [Control.Limits].
func NewPace(limits func() authz.Limits) *Pace { return &Pace{limits: limits} }

// paceTick is the shortest time that a client is made to wait for bytes.
const paceTick = 10 * time.Millisecond

// longestWait is the longest time until the rates are looked at again, which may have changed.
const longestWait = time.Second

// Admit returns how many of the bytes b may be passed on at the time now: whole messages up to the
// rate of messages, and as many bytes as the rate of bytes allows, which may end inside a packet.
// If these are not all, wait is the time after which more may be. It is the Admit of a relay.Pacer.
func (p *Pace) Admit(now time.Time, b []byte) (n int, wait time.Duration) {
	limits := p.limits()
	p.messages.refill(now, limits.PublishRate, limits.PublishBurst)
	p.bytes.refill(now, limits.ByteRate, 0)
	n, message := p.follow(b[:p.bytes.room(len(b))])
	p.bytes.spend(n)
	switch {
	case n == len(b):
		return n, 0
	case message:
		return n, p.messages.wait(1)
	}
	return n, p.bytes.wait(min(len(b)-n, p.bytes.in(paceTick)))
}

// follow returns how many of the bytes b there are before a message that has to wait, and
// whether there is one.
func (p *Pace) follow(b []byte) (n int, message bool) {
	for n < len(b) {
		switch {
		case p.lost:
			return len(b), false
		case p.header == 0 && p.left > 0:
			body := min(p.left, len(b)-n)
			p.left -= body
			n += body
			continue
		case p.header == 0:
			if packets.Type(b[n]>>4) == packets.PUBLISH && !p.messages.take() {
				return n, true
			}
			p.header = 1
		default:
			p.left |= int(b[n]&0x7F) << (7 * (p.header - 1))
			p.header++
			switch {
			case b[n] < 0x80:
				p.header = 0
			case p.header > 4:
				p.lost = true
			}
		}
		n++
	}
	return n, false
}

// Remaining returns how many bytes of the packet that has begun may be passed on now, as far as
// the last Admit knew.
func (p *Pace) Remaining() int {
	if p.header != 0 || p.lost {
		return 0
	}
	return p.bytes.room(p.left)
}

// Skip records that n of the bytes that Remaining counts have been passed on.
func (p *Pace) Skip(n int) {
	p.left -= n
	p.bytes.spend(n)
}

// allowance is what a client has left of a rate.
type allowance struct {
	rate float64   // in a second; 0 means unlimited
	left float64   // may be spent now
	at   time.Time // of left
}

// refill adds what has fallen due since the last call. Without a burst it is that of a second.
func (a *allowance) refill(now time.Time, rate, burst int64) {
	if a.rate = float64(rate); rate == 0 {
		*a = allowance{}
		return
	}
	if burst == 0 {
		burst = rate
	}
	most := float64(burst)
	if a.at.IsZero() {
		a.left = most
	} else {
		a.left += max(0, now.Sub(a.at).Seconds()) * a.rate
	}
	a.left, a.at = min(a.left, most+a.rate*paceTick.Seconds()), now
}

// roundOff is less than any difference that counts, and more than the error of adding up.
const roundOff = 1e-6

// take spends one, if there is one left.
func (a *allowance) take() bool {
	if a.rate > 0 && a.left < 1-roundOff {
		return false
	}
	a.spend(1)
	return true
}

func (a *allowance) spend(n int) {
	if a.rate > 0 {
		a.left -= float64(n)
	}
}

// room returns how many of n may be spent.
func (a *allowance) room(n int) int {
	if a.rate == 0 {
		return n
	}
	return int(max(0, min(float64(n), a.left+roundOff)))
}

// in returns how many fall due in a time, one at least.
func (a *allowance) in(t time.Duration) int {
	return int(max(1, min(math.MaxInt32, a.rate*t.Seconds())))
}

// wait returns the time until n may be spent.
func (a *allowance) wait(n int) time.Duration {
	missing := (float64(n) - a.left) / a.rate * float64(time.Second)
	return min(max(time.Duration(missing), 0)+time.Microsecond, longestWait)
}
