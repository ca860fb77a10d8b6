package broker

import (
	"slices"
	"time"
)

// warnEvery is how often it is logged of a session that its oldest messages are dropped.
const warnEvery = time.Minute

// place is where a message of a reader is: in memory by its packet identifier, and in the file.
type place struct {
	id  uint16
	seq int64
}

// placed remembers the order of the messages for a reader. Called with ledger.mu held.
func (a *account) placed(id uint16, seq int64) {
	if !a.reader || seq <= 0 {
		return
	}
	if len(a.order) > 2*len(a.queue)+64 { // most are gone
		a.order = slices.DeleteFunc(a.order, func(p place) bool { return !a.holds(p) })
	}
	a.order = append(a.order, place{id, seq})
}

// holds reports whether a message is in the queue. Called with ledger.mu held.
func (a *account) holds(p place) bool { return a.queue[p.id].seq == p.seq }

// dropOldest removes the oldest message from what is in memory of the queue of a reader's session
// that is in the file, and returns its packet identifier, 0 if there is none.
func (l *ledger) dropOldest(clientID string) (id uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[clientID]
	if a == nil || !a.reader {
		return 0
	}
	for len(a.order) > 0 {
		oldest := a.order[0]
		a.order = a.order[1:]
		if !a.holds(oldest) {
			continue
		}
		l.unqueue(a, oldest.id)
		return oldest.id
	}
	return 0
}

// warn reports whether to log now that the oldest are dropped. Called with ledger.mu held.
func (a *account) warn(now time.Time) bool {
	if now.Sub(a.warned) < warnEvery {
		return false
	}
	a.warned = now
	return true
}
