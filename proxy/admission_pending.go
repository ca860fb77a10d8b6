package proxy

import (
	"container/heap"
	"net/netip"
	"time"
)

// pending has the connections that may be closed to make room for others: those that have
// not sent a whole CONNECT, and refused ones that wait for their client to close. They are
// kept by network, so that one network cannot push out the connections of another.
type pending struct {
	n        int
	networks map[netip.Prefix]*networkPending
	most     byNumber
}

// networkPending has the pending connections of one network, from the oldest to the newest.
type networkPending struct {
	network        netip.Prefix
	n              int
	oldest, newest *conn
	index          int // in byNumber
}

// waiting is where a connection is among the pending ones.
type waiting struct {
	among        *networkPending // nil if the connection is not pending
	older, newer *conn
	since        time.Time
	displaced    bool // closed to make room, and about to be released
}

// add appends c to the connections of network.
func (p *pending) add(c *conn, network netip.Prefix, now time.Time) {
	all := p.networks[network]
	if all == nil {
		all = &networkPending{network: network}
		if p.networks == nil {
			p.networks = make(map[netip.Prefix]*networkPending)
		}
		p.networks[network] = all
		heap.Push(&p.most, all)
	}
	at := &c.arrival.waiting
	at.among, at.older, at.since = all, all.newest, now
	if all.newest != nil {
		all.newest.arrival.waiting.newer = c
	} else {
		all.oldest = c
	}
	all.newest = c
	all.n++
	p.n++
	heap.Fix(&p.most, all.index)
}

// remove removes c, if it is pending.
func (p *pending) remove(c *conn) {
	at := &c.arrival.waiting
	all := at.among
	if all == nil {
		return
	}
	if at.older != nil {
		at.older.arrival.waiting.newer = at.newer
	} else {
		all.oldest = at.newer
	}
	if at.newer != nil {
		at.newer.arrival.waiting.older = at.older
	} else {
		all.newest = at.older
	}
	at.among, at.older, at.newer = nil, nil, nil
	all.n--
	p.n--
	if all.n > 0 {
		heap.Fix(&p.most, all.index)
		return
	}
	heap.Remove(&p.most, all.index)
	delete(p.networks, all.network)
}

// of returns how many connections of network are pending.
func (p *pending) of(network netip.Prefix) int {
	if all := p.networks[network]; all != nil {
		return all.n
	}
	return 0
}

// first returns the connection that is to be closed first, nil if there is none. It is the oldest
// one of the network that has most of them, and of several such networks the oldest.
func (p *pending) first() *conn {
	if len(p.most) == 0 {
		return nil
	}
	return p.most[0].oldest
}

// byNumber is a heap with the network that has most pending connections at its top.
type byNumber []*networkPending

func (h byNumber) Len() int { return len(h) }

func (h byNumber) Less(i, j int) bool {
	if h[i].n != h[j].n {
		return h[i].n > h[j].n
	}
	a, b := h[i].oldest, h[j].oldest
	return a != nil && b != nil && a.arrival.waiting.since.Before(b.arrival.waiting.since)
}

func (h byNumber) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *byNumber) Push(x any) {
	all := x.(*networkPending)
	all.index = len(*h)
	*h = append(*h, all)
}

// Pop implements heap.Interface.
func (h *byNumber) Pop() any {
	last := len(*h) - 1
	all := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return all
}
