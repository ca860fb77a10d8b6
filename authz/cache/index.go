package cache

// links are an entry's neighbors in one list of an [index].
type links struct{ prev, next *entry }

// index finds the entries that share a handle: a token id or a subject. Its lists are
// linked through the entries themselves, so that an entry is removed in constant time
// however many share its handle.
type index[H comparable] struct {
	handle func(*entry) H
	links  func(*entry) *links
	heads  map[H]*entry
}

func (x *index[H]) add(e *entry) {
	h := x.handle(e)
	head := x.heads[h]
	x.links(e).next = head
	if head != nil {
		x.links(head).prev = e
	}
	x.heads[h] = e
}

func (x *index[H]) remove(e *entry) {
	l := x.links(e)
	if l.next != nil {
		x.links(l.next).prev = l.prev
	}
	switch {
	case l.prev != nil:
		x.links(l.prev).next = l.next
	case l.next != nil:
		x.heads[x.handle(e)] = l.next
	default:
		delete(x.heads, x.handle(e))
	}
}

// keys returns the keys of all entries with the handle h.
func (x *index[H]) keys(h H) (keys []key) {
	for e := x.heads[h]; e != nil; e = x.links(e).next {
		keys = append(keys, e.key)
	}
	return keys
}

// indexes find the entries that a revocation names by something other than the token.
type indexes struct {
	byTokenID index[string]
	bySubject index[string]
}

func newIndexes() indexes {
	return indexes{
		byTokenID: index[string]{
			handle: func(e *entry) string { return e.grant.TokenID },
			links:  func(e *entry) *links { return &e.links[0] },
			heads:  map[string]*entry{},
		},
		bySubject: index[string]{
			handle: func(e *entry) string { return e.grant.Subject },
			links:  func(e *entry) *links { return &e.links[1] },
			heads:  map[string]*entry{},
		},
	}
}

func (x *indexes) add(e *entry) {
	x.byTokenID.add(e)
	x.bySubject.add(e)
}

func (x *indexes) remove(e *entry) {
	x.byTokenID.remove(e)
	x.bySubject.remove(e)
}
