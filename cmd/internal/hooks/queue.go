package hooks

import "container/list"

// queue keeps events in their order. Its owner has a lock.
type queue struct {
	// most and mostBytes limit all events, and share those of one party. All are set.
	most, mostBytes, share int

	events  list.List // of entry
	bytes   int
	parties map[string][]*list.Element // the events of each party, in their order
}

// entry is an encoded event.
type entry struct {
	number uint64 // of all events
	party  string
	text   []byte
}

// push adds an event. If the party already has its share, its oldest event is dropped; if there is
// no room, the oldest of all are dropped. It returns how many it has dropped.
func (q *queue) push(e entry) (dropped int) {
	if q.parties == nil {
		q.parties = make(map[string][]*list.Element)
	}
	if own := q.parties[e.party]; len(own) >= q.share {
		q.remove(own[0])
		dropped++
	}
	q.parties[e.party] = append(q.parties[e.party], q.events.PushBack(e))
	q.bytes += len(e.text)
	for q.events.Len() > q.most || q.bytes > q.mostBytes {
		q.remove(q.events.Front())
		dropped++
	}
	return dropped
}

// first returns the oldest event.
func (q *queue) first() (e entry, ok bool) {
	if front := q.events.Front(); front != nil {
		return front.Value.(entry), true
	}
	return entry{}, false
}

// pop removes the oldest event, which must exist.
func (q *queue) pop() { q.remove(q.events.Front()) }

// remove removes an event that is the oldest of its party.
func (q *queue) remove(el *list.Element) {
	e := q.events.Remove(el).(entry)
	q.bytes -= len(e.text)
	if own := q.parties[e.party]; len(own) > 1 {
		own[0] = nil
		q.parties[e.party] = own[1:]
	} else {
		delete(q.parties, e.party)
	}
}

// clear removes all events and returns how many there were.
func (q *queue) clear() int {
	n := q.events.Len()
	q.events.Init()
	q.bytes, q.parties = 0, nil
	return n
}
