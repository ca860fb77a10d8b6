package admin

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxFailures is how many wrong sign-ins an address may make in failureTime.
	maxFailures = 10
	failureTime = time.Minute
	// maxFailing is how many addresses are counted one by one. All others share one count.
	maxFailing = 10_000
)

// failures counts wrong sign-ins. IPv6 addresses are counted by their /64, the smallest network
// that a site gets.
type failures struct {
	mu     sync.Mutex
	counts map[netip.Prefix]failureCount
}

type failureCount struct {
	n     int
	until time.Time
}

// try calls check, which reports whether a token is right, unless there were too many failures
// from the address. In that case it returns how long to wait.
func (f *failures) try(from netip.Addr, check func() bool) (wait time.Duration) {
	// The lock is held during the check, so that many requests at once cannot make more attempts
	// than requests one after the other.
	f.mu.Lock()
	defer f.mu.Unlock()
	now, at := time.Now(), f.place(from)
	count := f.counts[at]
	if !now.Before(count.until) {
		count = failureCount{until: now.Add(failureTime)}
	}
	if count.n >= maxFailures {
		return count.until.Sub(now)
	}
	if !check() {
		if f.counts == nil {
			f.counts = make(map[netip.Prefix]failureCount)
		}
		count.n++
		f.counts[at] = count
	}
	return 0
}

// place returns under which key the failures of an address are counted. f.mu is held.
func (f *failures) place(from netip.Addr) netip.Prefix {
	at := networkOfAddr(from)
	if _, ok := f.counts[at]; !ok && len(f.counts) >= maxFailing {
		f.sweep()
		if len(f.counts) >= maxFailing {
			return netip.Prefix{}
		}
	}
	return at
}

// sweep removes the counts whose time is over. f.mu is held.
func (f *failures) sweep() {
	now := time.Now()
	for at, count := range f.counts {
		if !now.Before(count.until) {
			delete(f.counts, at)
		}
	}
}
