package pool

import (
	"math/bits"
	"time"
)

// next chooses the member to try next and takes a place there. It reports false if no member is
// left.
func (a *attempt) next() bool {
	p := a.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	var up, down uint64
	for i, m := range p.members {
		switch bit := uint64(1) << i; {
		case a.tried&bit != 0:
		case m.isUp():
			up |= bit
		default:
			down |= bit
		}
	}
	if up != 0 {
		a.take(p.choose(up, a), bits.OnesCount64(up))
		a.last = false
		return true
	}
	for down != 0 {
		i := p.choose(down, a)
		if p.members[i].beginTrial(a.subject) {
			a.take(i, bits.OnesCount64(down))
			a.last = true
			return true
		}
		down &^= 1 << i
	}
	return false
}

func (a *attempt) take(i, waiting int) {
	a.member, a.waiting = a.pool.members[i], waiting
	a.tried |= 1 << i
	a.member.sessions.Add(1)
}

// choose returns one of the members in the set, which is not empty.
func (p *Pool) choose(set uint64, a *attempt) int {
	switch {
	case p.options.Balance == LeastConnections:
		return p.leastLoaded(set)
	case p.options.Balance == RoundRobin || !a.keyed:
		return p.nextInTurn(set)
	}
	return p.home(set, a.key)
}

// home returns the member in the set that has the highest score for the key (rendezvous
// hashing, Thaler and Ravishankar 1998). Removing a member does not move the keys of the
// others.
func (p *Pool) home(set, key uint64) int {
	best, highest := -1, uint64(0)
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros64(set)
		if score := mix(key ^ p.members[i].seed); best < 0 || score > highest {
			best, highest = i, score
		}
	}
	return best
}

// leastLoaded returns the member with the fewest sessions relative to its weight. Members with
// equal load take turns.
func (p *Pool) leastLoaded(set uint64) int {
	now := time.Now()
	best, lowest := -1, 0.0
	n := uint(len(p.members))
	p.turn++
	for k := range n {
		i := int((p.turn + k) % n)
		if set&(1<<i) == 0 {
			continue
		}
		m := p.members[i]
		if load := float64(m.sessions.Load()+1) / m.weight(now, p.options.SlowStart); best < 0 || load < lowest {
			best, lowest = i, load
		}
	}
	return best
}

// nextInTurn returns the next member in turn. A member in its slow start skips some of its
// turns.
func (p *Pool) nextInTurn(set uint64) int {
	now := time.Now()
	first := -1
	n := uint(len(p.members))
	p.turn++
	for k := range n {
		i := int((p.turn + k) % n)
		if set&(1<<i) == 0 {
			continue
		}
		if first < 0 {
			first = i
		}
		if m := p.members[i]; m.takesTurn(m.weight(now, p.options.SlowStart)) {
			p.turn += k
			return i
		}
	}
	return first
}

// hash is FNV-1a. It must be the same in every process and version, because it determines the
// server of a client id.
func hash(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}

// mix is the finalizer of SplitMix64. FNV alone gives similar hashes to texts that differ only
// in their last characters.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
