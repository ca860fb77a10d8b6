package proxy

import (
	"container/heap"
	"net/netip"
	"time"
)

// pending are the connections that may be closed to make room for others: those that
// have not sent a whole CONNECT, and refused ones that wait for their client to close.
// They are kept by address, so that one address cannot push out the connections of
// another.
type pending struct {
	n      int
	blocks map[netip.Prefix]*addressPending
	most   byNumber
}

// addressPending is the pending connections of one address, from the oldest to the newest.
type addressPending struct {
	block          netip.Prefix
	n              int
	oldest, newest *conn
	index          int // in byNumber
}

// waiting is where a connection is among those that are pending.
type waiting struct {
	among        *addressPending // nil outside
	older, newer *conn
	since        time.Time
	displaced    bool // it has been closed to make room, and is about to leave
}

// add appends c to the connections of block.
func (p *pending) add(c *conn, block netip.Prefix, now time.Time) {
	all := p.blocks[block]
	if all == nil {
		all = &addressPending{block: block}
		if p.blocks == nil {
			p.blocks = make(map[netip.Prefix]*addressPending)
		}
		p.blocks[block] = all
		heap.Push(&p.most, all)
	}
	c.arrival.waiting.among, c.arrival.waiting.older, c.arrival.waiting.since = all, all.newest, now
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

// remove takes c out, if it is pending.
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
	delete(p.blocks, all.block)
}

// of returns how many connections of block are pending.
func (p *pending) of(block netip.Prefix) int {
	if all := p.blocks[block]; all != nil {
		return all.n
	}
	return 0
}

// first returns the connection that gives way first, nil if there is none: the oldest
// one of the address that has most, the oldest of these if several have as many.
func (p *pending) first() *conn {
	if len(p.most) == 0 {
		return nil
	}
	return p.most[0].oldest
}

// byNumber is a heap with the address that has most at its top.
type byNumber []*addressPending

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
	all := x.(*addressPending)
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
