package proxy

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
)

// A refusal behind TLS costs a handshake, so refusals are limited too: at most so many
// connections beyond a limit are kept at the same time, and so many a second, until
// they have got their CONNACK. The rest is closed at once.
const (
	refusing     = 64
	refusingRate = 100
)

// errDisplaced is the cause for which a pending connection is closed.
var errDisplaced = errors.New("displaced by a newer connection")

// admission counts the open connections and their file descriptors, in all and per
// address, and paces new ones.
type admission struct {
	mu      sync.Mutex
	open    int
	over    int // of those, only to be refused
	closing int // of those, displaced; each has one descriptor
	used    int // descriptors
	byBlock map[netip.Prefix]int
	pending pending
	freed   chan struct{} // closed at the next leave; nil while nobody waits for one

	all     bucket.Bucket // of all new connections
	told    bucket.Bucket // of those beyond a limit that are told so
	perAddr addressPaces
}

// ticket is the right to be open.
type ticket struct {
	over        bool // only to be refused
	counted     bool // for its address
	descriptors uint8
}

// enter counts a new connection, as one that is pending or, with c.arrival.excess set, as one
// that is only to be refused. It reports false if there is no room even for that. At a
// limit it may wait, for moments, until a connection that it has displaced is closed.
func (a *admission) enter(c *conn) (ok bool) {
	excess := c.policy.overload()
	limits := &c.policy.Limits
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case excess != nil:
	case !a.all.Take(c.arrival.accepted, limits.ConnectRate.bucket()):
		excess = refuse(RateExceeded, errors.New("the limit on new connections a second is reached"))
	case !a.makeRoom(c, 1, a.yieldsTo):
		excess = refuse(Busy, errors.New("the limit on connections or on file descriptors is reached"))
	}
	if excess != nil && !a.tell(c, excess) {
		return false
	}
	a.open++
	a.used++
	c.arrival.ticket.descriptors = 1
	if excess == nil {
		a.await(c, c.arrival.accepted)
	}
	return true
}

// await makes c pending. At the limit on those the first of them gives way.
func (a *admission) await(c *conn, now time.Time) {
	a.pending.add(c, blockOf(c.arrival.addr.Addr()), now)
	if limit := c.policy.Limits.Pending; limit > 0 && a.pending.n > limit {
		a.displace(a.pending.first())
	}
}

// displace closes a pending connection.
func (a *admission) displace(c *conn) {
	a.pending.remove(c)
	c.arrival.waiting.displaced = true
	a.closing++
	c.abort(errDisplaced)
	_ = c.arrival.raw.SetDeadline(time.Unix(1, 0))
}

// yieldsTo reports whether the pending connection old gives way to the newcomer c at a
// limit on all connections. It does if it has been silent for some time or if its
// address has more of them; else a storm of devices, none of which is slow, would only
// push one another out.
func (a *admission) yieldsTo(old, c *conn) bool {
	return c.arrival.accepted.Sub(old.arrival.waiting.since) >= lingerTimeout || old.arrival.waiting.among.n > a.pending.of(blockOf(c.arrival.addr.Addr()))+1
}

func always(_, _ *conn) bool { return true }

// makeRoom sees to it that c may have n more descriptors, and be open if it is not
// yet. Pending connections that yield to c are displaced for it. a.mu is held, but not
// while it waits until they are closed. It reports false if there is no room.
func (a *admission) makeRoom(c *conn, n int, yields func(old, c *conn) bool) bool {
	limits := &c.policy.Limits
	for {
		opens := c.arrival.ticket.descriptors == 0
		free := limits.connectionDescriptors() - limits.refusing() - (a.used - a.over) - n
		switch {
		case opens && limits.Connections > 0 && a.open-a.over-a.closing >= limits.Connections,
			limits.Descriptors > 0 && free+a.closing < 0:
			first := a.pending.first()
			if first == nil || !yields(first, c) {
				return false
			}
			a.displace(first)
		case limits.Descriptors > 0 && free < 0:
			if !a.waitForLeave(c.ctx) {
				return false
			}
		default:
			return true
		}
	}
}

// waitForLeave waits, without a.mu, until a connection has left. It reports false if ctx
// ends first.
func (a *admission) waitForLeave(ctx context.Context) bool {
	if a.freed == nil {
		a.freed = make(chan struct{})
	}
	freed := a.freed
	a.mu.Unlock()
	defer a.mu.Lock()
	select {
	case <-freed:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell makes c a connection that is only to be refused with excess, if there is room
// for one more.
func (a *admission) tell(c *conn, excess error) bool {
	if a.over >= c.policy.Limits.refusing() || !a.told.Take(c.arrival.accepted, Rate{PerSecond: refusingRate}.bucket()) {
		return false
	}
	a.pending.remove(c)
	a.over++
	c.arrival.ticket.over = true
	c.arrival.excess = excess
	return true
}

// arrive counts the connection for its address, which is known now, and for the pace of
// that. Its result is that of enter.
func (a *admission) arrive(c *conn) (ok bool) {
	addr, limits := c.arrival.addr.Addr(), &c.policy.Limits
	if !addr.IsValid() {
		return true
	}
	block := blockOf(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.arrival.ticket.over {
		return true
	}
	if at := &c.arrival.waiting; at.among != nil && at.among.block != block {
		since := at.since
		a.pending.remove(c)
		a.pending.add(c, block, since)
	}
	switch {
	case limits.AddressRate.PerSecond > 0 && !a.perAddr.take(block, c.arrival.accepted, limits.AddressRate):
		return a.tell(c, refuse(RateExceeded, errors.New("the limit on new connections a second of one address is reached")))
	case limits.PerAddress > 0 && a.byBlock[block] >= limits.PerAddress:
		return a.tell(c, refuse(Busy, errors.New("the limit on connections of one address is reached")))
	case limits.PerAddress > 0:
		if a.byBlock == nil {
			a.byBlock = make(map[netip.Prefix]int)
		}
		a.byBlock[block]++
		c.arrival.ticket.counted = true
	}
	return true
}

// endPending takes a connection that has sent its CONNECT out of those that are pending.
// It reports false if it has been displaced.
func (a *admission) endPending(c *conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending.remove(c)
	return !c.arrival.waiting.displaced
}

// addDescriptors counts n more descriptors for c. It reports false if there are none.
func (a *admission) addDescriptors(c *conn, n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.makeRoom(c, n, always) {
		return false
	}
	a.used += n
	c.arrival.ticket.descriptors += uint8(n)
	return true
}

// linger makes a connection pending that is refused and closed only by its client, or
// after a second. All its descriptors but the client's are closed.
func (a *admission) linger(c *conn, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.giveBack(int(c.arrival.ticket.descriptors) - 1)
	c.arrival.ticket.descriptors = 1
	if !c.arrival.ticket.over && !c.arrival.waiting.displaced && c.arrival.waiting.among == nil {
		a.await(c, now)
	}
}

// leave gives the place of a connection that is no session back.
func (a *admission) leave(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending.remove(c)
	if c.arrival.waiting.displaced {
		a.closing--
	}
	a.end(c.arrival.ticket, c.arrival.addr.Addr())
}

// leaveSession gives the place of a session from addr back.
func (a *admission) leaveSession(t ticket, addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end(t, addr)
}

func (a *admission) end(t ticket, addr netip.Addr) {
	a.open--
	if t.over {
		a.over--
	}
	a.giveBack(int(t.descriptors))
	if !t.counted {
		return
	}
	block := blockOf(addr)
	if a.byBlock[block]--; a.byBlock[block] == 0 {
		delete(a.byBlock, block)
	}
}

// giveBack ends the use of n descriptors.
func (a *admission) giveBack(n int) {
	a.used -= n
	if a.freed != nil {
		close(a.freed)
		a.freed = nil
	}
}

// listen counts the descriptor of the connection that a listener is about to accept.
func (a *admission) listen(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.giveBack(-n)
}

// count returns the number of open connections, and of those that are pending.
func (a *admission) count() (open, pending int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open, a.pending.n
}

// pipes returns how many pipes may move bytes at the same time, with two descriptors
// each.
func (l *Limits) pipes() int { return min(64, max(1, l.Descriptors/32)) }

func (l *Limits) upstreamDescriptors() int { return cmp.Or(l.UpstreamDescriptors, 1) }

// connectionDescriptors returns how many descriptors are left for connections.
func (l *Limits) connectionDescriptors() int { return l.Descriptors - 2*l.pipes() }

// refusing returns how many connections may be open only to be refused.
func (l *Limits) refusing() int {
	if l.Descriptors <= 0 {
		return refusing
	}
	return min(refusing, max(l.Descriptors/8, 1))
}

// blockOf returns the addresses that count as one customer: a single IPv4
// address, or the /64 that an IPv6 host can choose freely from.
func blockOf(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}

// handshakeSlots returns the places for TLS handshakes that compute at the same
// time. One for each processor keeps all of them busy; more would make every handshake
// slower, and live sessions wait behind them.
func handshakeSlots(limit int) chan struct{} {
	return make(chan struct{}, max(cmp.Or(limit, runtime.GOMAXPROCS(0)), 1))
}
