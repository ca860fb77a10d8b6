package pool

import (
	"math"
	"math/bits"
	"time"
)

// next chooses the member to try next and takes a place there. It reports false if no member is
// left.
func (a *attempt) next() bool {
	p := a.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	var up, backup, down uint64
	for i, m := range p.members {
		switch bit := uint64(1) << i; {
		case a.tried&bit != 0 || m.drained.Load():
		case !m.isUp():
			down |= bit
		case p.options.Servers[i].Backup:
			backup |= bit
		default:
			up |= bit
		}
	}
	waiting := bits.OnesCount64(up | backup)
	if up == 0 {
		up = backup
	}
	if up != 0 {
		a.take(p.choose(up, a), waiting)
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
	if !p.even {
		return p.weightedHome(set, key)
	}
	best, highest := -1, uint64(0)
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros64(set)
		if score := mix(key ^ p.members[i].seed); best < 0 || score > highest {
			best, highest = i, score
		}
	}
	return best
}

// weightedHome is home for servers with different weights: it takes the hash as a random number
// u from 0 to 1, and the score is weight / -ln(u). A member then has the highest score for its
// share of the keys (Schindelhauer and Schomaker, Weighted Distributed Hash Tables, 2005), and a
// changed weight moves keys only to or from that member. With equal weights the order of the
// scores is that of the hashes.
func (p *Pool) weightedHome(set, key uint64) int {
	best, highest := -1, 0.0
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros64(set)
		u := (float64(mix(key^p.members[i].seed)>>11) + 0.5) / (1 << 53)
		if score := p.weight(i) / -math.Log(u); best < 0 || score > highest {
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
		if load := float64(m.sessions.Load()+1) / p.share(i, now); best < 0 || load < lowest {
			best, lowest = i, load
		}
	}
	return best
}

// share returns the weight of a member, reduced while it is in its slow start.
func (p *Pool) share(i int, now time.Time) float64 {
	return p.weight(i) * p.members[i].ramped(now, p.options.SlowStart)
}

// nextInTurn returns the next member in turn. A member skips some of its turns if another one
// has a higher weight, or while it is in its slow start.
func (p *Pool) nextInTurn(set uint64) int {
	now := time.Now()
	first, heaviest := -1, 0.0
	for rest := set; rest != 0; rest &= rest - 1 {
		heaviest = max(heaviest, p.weight(bits.TrailingZeros64(rest)))
	}
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
		if p.members[i].takesTurn(p.share(i, now) / heaviest) {
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
