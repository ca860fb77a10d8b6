package proxy

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/bucket"
)

// A refusal behind TLS costs a handshake, so refusals are limited too: of the connections
// beyond a limit at most maxRefusing at once, and maxRefusingRate a second, are kept until
// they have got their CONNACK. The others are closed at once.
const (
	maxRefusing     = 64
	maxRefusingRate = 100
)

// errDisplaced is the cause for which a pending connection is closed.
var errDisplaced = errors.New("displaced by a newer connection")

// admission counts the open connections and their file descriptors, in all and per network
// (see [authz.Network]), and limits the new connections per second. At a limit it decides which
// pending connection is closed for a new one, see pending.
type admission struct {
	mu          sync.Mutex
	open        int // connections
	refused     int // of those, the ones that are only to be refused
	closing     int // of those, the displaced ones; each has one descriptor
	descriptors int
	byNetwork   map[netip.Prefix]int
	pending     pending
	released    chan struct{} // closed by the next release; nil while nothing waits for one

	connectRate  bucket.Bucket // of all new connections
	refusalRate  bucket.Bucket // of connections beyond a limit that get a CONNACK
	addressRates addressRates
}

// ticket is what an open connection holds of the limits.
type ticket struct {
	refused     bool // the connection is only to be refused
	counted     bool // it counts for its network
	descriptors uint8
}

// admit counts a new connection, which is pending from now on or, with an excess, only to
// be refused. It reports false if there is no room even for that. At a limit it may wait a
// moment until a connection that it has displaced is closed.
func (a *admission) admit(c *conn) (ok bool) {
	excess := c.policy.overload()
	limits := &c.policy.Limits
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case excess != nil:
	case !a.connectRate.Take(c.arrival.accepted, limits.ConnectRate.bucket()):
		excess = refuse(RateExceeded, errors.New("the limit on new connections a second is reached"))
	case !a.makeRoom(c, 1, a.yieldsTo):
		excess = refuse(Busy, errors.New("the limit on connections or on file descriptors is reached"))
	}
	if excess != nil && !a.admitForRefusal(c, excess) {
		return false
	}
	a.open++
	a.descriptors++
	c.arrival.ticket.descriptors = 1
	if excess == nil {
		a.addPending(c, c.arrival.accepted)
	}
	return true
}

// addPending makes c pending. If there are too many pending connections, the first one is closed.
func (a *admission) addPending(c *conn, now time.Time) {
	a.pending.add(c, authz.Network(c.arrival.addr.Addr()), now)
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

// yieldsTo reports whether the pending connection old is closed in favor of the new connection c
// at a limit on all connections. It is if it has been silent for some time or if its network has
// more pending connections. Otherwise many devices that connect at once, none of which is slow,
// would only displace one another.
func (a *admission) yieldsTo(old, c *conn) bool {
	silent := c.arrival.accepted.Sub(old.arrival.waiting.since)
	return silent >= lingerTimeout || old.arrival.waiting.among.n > a.pending.of(authz.Network(c.arrival.addr.Addr()))+1
}

func always(_, _ *conn) bool { return true }

// makeRoom ensures that c may have n more descriptors, and may be open if it is not yet.
// It displaces pending connections that yield to c, and waits until they are closed; a.mu
// is held, but not while it waits. It reports false if there is no room.
func (a *admission) makeRoom(c *conn, n int, yields func(old, c *conn) bool) bool {
	limits := &c.policy.Limits
	for {
		opens := c.arrival.ticket.descriptors == 0
		free := limits.connectionDescriptors() - limits.refusing() - (a.descriptors - a.refused) - n
		switch {
		case opens && limits.Connections > 0 && a.open-a.refused-a.closing >= limits.Connections,
			limits.Descriptors > 0 && free+a.closing < 0:
			first := a.pending.first()
			if first == nil || !yields(first, c) {
				return false
			}
			a.displace(first)
		case limits.Descriptors > 0 && free < 0:
			if !a.waitForRelease(c.ctx) {
				return false
			}
		default:
			return true
		}
	}
}

// waitForRelease waits, without a.mu, until descriptors are released. It reports false if
// ctx ends first.
func (a *admission) waitForRelease(ctx context.Context) bool {
	if a.released == nil {
		a.released = make(chan struct{})
	}
	released := a.released
	a.mu.Unlock()
	defer a.mu.Lock()
	select {
	case <-released:
		return true
	case <-ctx.Done():
		return false
	}
}

// admitForRefusal makes c a connection that is only to be refused, for excess. It reports
// false if there are too many of those. a.mu is held.
func (a *admission) admitForRefusal(c *conn, excess error) bool {
	if a.refused >= c.policy.Limits.refusing() || !a.refusalRate.Take(c.arrival.accepted, bucket.PerSecond(maxRefusingRate, maxRefusingRate)) {
		return false
	}
	a.pending.remove(c)
	a.refused++
	c.arrival.ticket.refused = true
	c.arrival.excess = excess
	return true
}

// countAddress counts the connection for its network once its address is known, and for
// the rate of that network. Its result is that of admit.
func (a *admission) countAddress(c *conn) (ok bool) {
	addr, limits := c.arrival.addr.Addr(), &c.policy.Limits
	if !addr.IsValid() {
		return true
	}
	network := authz.Network(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.arrival.ticket.refused {
		return true
	}
	if at := &c.arrival.waiting; at.among != nil && at.among.network != network {
		since := at.since
		a.pending.remove(c)
		a.pending.add(c, network, since)
	}
	switch {
	case limits.AddressRate.PerSecond > 0 && !a.addressRates.take(network, c.arrival.accepted, limits.AddressRate):
		return a.admitForRefusal(c, refuse(RateExceeded, errors.New("the limit on new connections a second of one address is reached")))
	case limits.PerAddress > 0 && a.byNetwork[network] >= limits.PerAddress:
		return a.admitForRefusal(c, refuse(Busy, errors.New("the limit on connections of one address is reached")))
	case limits.PerAddress > 0:
		if a.byNetwork == nil {
			a.byNetwork = make(map[netip.Prefix]int)
		}
		a.byNetwork[network]++
		c.arrival.ticket.counted = true
	}
	return true
}

// endPending removes a connection that has sent its CONNECT from the pending ones. It reports
// false if the connection has been displaced.
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
	a.descriptors += n
	c.arrival.ticket.descriptors += uint8(n)
	return true
}

// linger makes a refused connection pending, which is closed by its client or after
// lingerTimeout. Its only descriptor is that of the client's connection.
func (a *admission) linger(c *conn, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseDescriptors(int(c.arrival.ticket.descriptors) - 1)
	c.arrival.ticket.descriptors = 1
	if !c.arrival.ticket.refused && !c.arrival.waiting.displaced && c.arrival.waiting.among == nil {
		a.addPending(c, now)
	}
}

// release ends the count of a connection that has not become a session.
func (a *admission) release(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending.remove(c)
	if c.arrival.waiting.displaced {
		a.closing--
	}
	a.releaseTicket(c.arrival.ticket, c.arrival.addr.Addr())
}

// releaseSession ends the count of a session from addr.
func (a *admission) releaseSession(t ticket, addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseTicket(t, addr)
}

// releaseTicket ends the count of a connection from addr. a.mu is held.
func (a *admission) releaseTicket(t ticket, addr netip.Addr) {
	a.open--
	if t.refused {
		a.refused--
	}
	a.releaseDescriptors(int(t.descriptors))
	if !t.counted {
		return
	}
	network := authz.Network(addr)
	if a.byNetwork[network]--; a.byNetwork[network] == 0 {
		delete(a.byNetwork, network)
	}
}

// releaseDescriptors ends the count of n descriptors. a.mu is held.
func (a *admission) releaseDescriptors(n int) {
	a.descriptors -= n
	if a.released != nil {
		close(a.released)
		a.released = nil
	}
}

// countListeners counts the descriptors of the connections that n more listeners are about
// to accept. n may be negative.
func (a *admission) countListeners(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseDescriptors(-n)
}

// connections returns the number of open connections, and how many of them are pending.
func (a *admission) connections() (open, pending int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open, a.pending.n
}

// pipes returns how many pipes may move bytes at the same time. Each has two descriptors.
func (l *Limits) pipes() int { return min(64, max(1, l.Descriptors/32)) }

func (l *Limits) upstreamDescriptors() int { return cmp.Or(l.UpstreamDescriptors, 1) }

// connectionDescriptors returns how many descriptors are left for connections.
func (l *Limits) connectionDescriptors() int { return l.Descriptors - 2*l.pipes() }

// refusing returns how many connections may be open only to be refused.
func (l *Limits) refusing() int {
	if l.Descriptors <= 0 {
		return maxRefusing
	}
	return min(maxRefusing, max(l.Descriptors/8, 1))
}

// handshakeSlots returns the slots for TLS handshakes that compute at the same time. One
// for each processor keeps all of them busy. More would make every handshake slower, and
// live sessions would wait behind them.
func handshakeSlots(limit int) chan struct{} {
	return make(chan struct{}, max(cmp.Or(limit, runtime.GOMAXPROCS(0)), 1))
}
