package cache

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// timed is a bounded map whose entries end at a time of their own. It is not
// safe for concurrent use.
//
// Reading does not reorder the entries, so the oldest entry is the one that was added first.
// Since all entries live about equally long, it is also the first to end.
type timed[K comparable, V any] struct {
	lru *simplelru.LRU[K, lasting[V]]
}

type lasting[V any] struct {
	value V
	until time.Time
}

func newTimed[K comparable, V any](size int) timed[K, V] {
	lru, _ := simplelru.NewLRU[K, lasting[V]](max(size, 1), nil)
	return timed[K, V]{lru: lru}
}

// add stores v under k until the given time, and removes entries that have expired.
func (m timed[K, V]) add(k K, v V, now, until time.Time) {
	for {
		_, oldest, ok := m.lru.GetOldest()
		if !ok || now.Before(oldest.until) {
			break
		}
		m.lru.RemoveOldest()
	}
	m.lru.Add(k, lasting[V]{v, until})
}

// get returns the value of k and when it expires.
func (m timed[K, V]) get(k K, now time.Time) (v V, until time.Time, ok bool) {
	l, ok := m.lru.Peek(k)
	if !ok || !now.Before(l.until) {
		return v, until, false
	}
	return l.value, l.until, true
}
