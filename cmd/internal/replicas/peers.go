package replicas

import "time"

const (
	// maxPeers is how many other replicas are known at once.
	maxPeers = 256
	// peerKept is how long a replica is shown after its last message. It must be longer than
	// twice MaxSkew: a replica that is forgotten sooner could have its messages repeated.
	peerKept = 10 * time.Minute
)

// peer is another replica.
type peer struct {
	name  string
	heard time.Time // when its last message arrived
	seen  window
}

// window remembers which numbers of a peer have arrived.
type window struct {
	highest uint64
	bits    uint64 // bit i is set if highest-i has arrived
}

// startWindow returns a window in which the number has arrived, and nothing below it may.
func startWindow(number uint64) window { return window{number, ^uint64(0)} }

// take reports whether the number arrives for the first time, and whether numbers before it are
// missing.
func (w *window) take(number uint64) (fresh, gap bool) {
	if number > w.highest {
		ahead := number - w.highest
		w.bits <<= min(ahead, 64)
		w.bits |= 1
		w.highest = number
		return true, ahead > 1
	}
	behind := w.highest - number
	if behind >= 64 || w.bits&(1<<behind) != 0 {
		return false, false
	}
	w.bits |= 1 << behind
	return true, false
}

// peers are the other replicas, by instance.
type peers map[string]*peer

// take records a message. It reports whether the message is new, and whether messages before it
// are missing, and since when. A replica that was not known is one whose earlier messages are
// missing, unless this is its first.
func (p peers) take(m message, now time.Time) (fresh, gap bool, since time.Time) {
	known := p[m.Instance]
	if known == nil {
		if !p.makeRoom(now) {
			return false, false, time.Time{}
		}
		p[m.Instance] = &peer{name: m.Name, heard: now, seen: startWindow(m.Number)}
		return true, m.Number > 1, time.Time{}
	}
	since = known.heard
	if fresh, gap = known.seen.take(m.Number); fresh {
		known.heard = now
	}
	return fresh, gap, since
}

// makeRoom removes replicas that have long been silent and reports whether there is room for
// one more.
func (p peers) makeRoom(now time.Time) bool {
	for instance, known := range p {
		if now.Sub(known.heard) > peerKept {
			delete(p, instance)
		}
	}
	return len(p) < maxPeers
}
