package proxy

import (
	"net/netip"
	"runtime"
	"sync"
)

// refusing is the number of connections beyond the limit that are kept just long
// enough to be told so. Further ones are closed at once.
const refusing = 64

// admission counts the open connections, in all and per address.
type admission struct {
	mu      sync.Mutex
	open    int
	over    int // of those, beyond the limit
	byBlock map[netip.Prefix]int
}

// ticket is the right to be open.
type ticket struct {
	over    bool // only to be refused
	counted bool // for its address
}

// enter counts a new connection. Without ok there is no room even to refuse it.
func (a *admission) enter(limit int) (t ticket, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t = ticket{over: limit > 0 && a.open-a.over >= limit}
	if t.over {
		if a.over >= refusing {
			return ticket{}, false
		}
		a.over++
	}
	a.open++
	return t, true
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
// time. More than a few for each CPU make every one of them slower and hold the
// memory of all.
func handshakeSlots(limit int) chan struct{} {
	return make(chan struct{}, orDefault(limit, 4*runtime.GOMAXPROCS(0)))
}
