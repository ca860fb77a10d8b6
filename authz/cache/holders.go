package cache

import "container/list"

// holder is one token with its entries. A token has several if the source looks at more than
// the token.
type holder struct {
	hash    [32]byte
	entries list.List     // of *entry, most recently used first
	place   *list.Element // in the level of its number of entries
}

// holders orders the entries of a shard for eviction. The token with the most entries loses one
// first, so one device with many client identifiers evicts only its own entries. Among tokens
// with the same number, the least recently used one loses an entry, which is plain LRU if each
// token has one entry.
type holders struct {
	byHash map[[32]byte]*holder
	levels map[int]*list.List // of *holder, by their number of entries, most recently used first
	most   int                // the highest level that is not empty
}

func newHolders() holders {
	return holders{byHash: map[[32]byte]*holder{}, levels: map[int]*list.List{}}
}

// add adds e as the most recently used.
func (x *holders) add(e *entry) {
	h := x.byHash[e.hash]
	if h == nil {
		h = &holder{hash: e.hash}
		x.byHash[e.hash] = h
	}
	e.place = h.entries.PushFront(e)
	x.move(h, h.entries.Len()-1)
}

// remove removes e.
func (x *holders) remove(e *entry) {
	h := x.byHash[e.hash]
	h.entries.Remove(e.place)
	x.move(h, h.entries.Len()+1)
	if h.entries.Len() == 0 {
		delete(x.byHash, h.hash)
	}
}

// move moves h from the given level to the one of its current size.
func (x *holders) move(h *holder, from int) {
	if from > 0 {
		x.levels[from].Remove(h.place)
		if x.levels[from].Len() == 0 {
			delete(x.levels, from)
		}
	}
	to := h.entries.Len()
	if to > 0 {
		if x.levels[to] == nil {
			x.levels[to] = list.New()
		}
		h.place = x.levels[to].PushFront(h)
	}
	if x.most = max(x.most, to); x.levels[x.most] == nil {
		x.most-- // only h was there, and it moved one level down
	}
}

// use makes e the most recently used.
func (x *holders) use(e *entry) {
	h := x.byHash[e.hash]
	h.entries.MoveToFront(e.place)
	x.levels[h.entries.Len()].MoveToFront(h.place)
}

// first returns the entry to evict first, or nil if there is none.
func (x *holders) first() *entry {
	if x.most == 0 {
		return nil
	}
	h := x.levels[x.most].Back().Value.(*holder)
	return h.entries.Back().Value.(*entry)
}

// keys returns the keys of all entries of a token.
func (x *holders) keys(hash [32]byte) (keys []key) {
	h := x.byHash[hash]
	if h == nil {
		return nil
	}
	for place := h.entries.Front(); place != nil; place = place.Next() {
		keys = append(keys, place.Value.(*entry).key)
	}
	return keys
}
