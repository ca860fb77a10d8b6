package proxy

import (
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// Refusing must not become the work that a limit is to save: behind TLS it costs
// a handshake. Of the connections beyond a limit so many are kept at the same time
// and so many a second, just long enough to be told so. The rest is closed at
// once.
const (
	refusing     = 64
	refusingRate = 100
)

// admission counts the open connections, in all and per address, and paces new
// ones.
type admission struct {
	mu      sync.Mutex
	open    int
	over    int // of those, only to be refused
	byBlock map[netip.Prefix]int

	all     pace // of all new connections
	told    pace // of those beyond a limit that are told so
	perAddr addressPaces
}

// ticket is the right to be open.
type ticket struct {
	over    bool // only to be refused
	counted bool // for its address
}

// enter counts a new connection. With an error the connection is only to be refused
// with it; without ok there is no room even for that.
func (a *admission) enter(p *Policy, now time.Time) (t ticket, excess error, ok bool) {
	excess = p.overload()
	a.mu.Lock()
	defer a.mu.Unlock()
	limits := &p.Limits
	switch {
	case limits.Connections > 0 && a.open-a.over >= limits.Connections:
		excess = refuse(Busy, errors.New("the limit on connections is reached"))
	case excess == nil && !a.all.take(now, limits.ConnectRate):
		excess = refuse(RateExceeded, errors.New("the limit on new connections a second is reached"))
	}
	if excess != nil && !a.tell(&t, now) {
		return ticket{}, excess, false
	}
	a.open++
	return t, excess, true
}

// tell makes t the right to be refused, if there is room for one more.
func (a *admission) tell(t *ticket, now time.Time) bool {
	if a.over >= refusing || !a.told.take(now, Rate{PerSecond: refusingRate}) {
		return false
	}
	t.over = true
	a.over++
	return true
}

// arrive paces the new connections of one address. Its results are those of enter.
func (a *admission) arrive(t *ticket, addr netip.Addr, limit Rate, now time.Time) (excess error, ok bool) {
	if limit.PerSecond <= 0 || !addr.IsValid() {
		return nil, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.over || a.perAddr.take(blockOf(addr), now, limit) {
		return nil, true
	}
	return refuse(RateExceeded, errors.New("the limit on new connections a second of one address is reached")), a.tell(t, now)
}

// enterAddress counts the connection for its address. It reports whether the
// address is within its limit.
func (a *admission) enterAddress(t *ticket, addr netip.Addr, limit int) bool {
	if limit <= 0 || !addr.IsValid() {
		return true
	}
	block := blockOf(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byBlock[block] >= limit {
		return false
	}
	if a.byBlock == nil {
		a.byBlock = make(map[netip.Prefix]int)
	}
	a.byBlock[block]++
	t.counted = true
	return true
}

// leave gives the place of a connection from addr back.
func (a *admission) leave(t ticket, addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	if t.over {
		a.over--
	}
	if !t.counted {
		return
	}
	block := blockOf(addr)
	if a.byBlock[block]--; a.byBlock[block] == 0 {
		delete(a.byBlock, block)
	}
}

func (a *admission) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
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
	return make(chan struct{}, orDefault(limit, runtime.GOMAXPROCS(0)))
}
