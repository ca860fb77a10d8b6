package inspect

import (
	"hash/maphash"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// subscriptions counts the topic filters that a client is subscribed to on this connection.
// Those that the broker refuses do not count. The filters of both directions use it at the
// same time.
type subscriptions struct {
	mu       sync.Mutex
	*counted // nil as long as none was counted
}

// counted is what subscriptions guards.
type counted struct {
	seed    maphash.Seed
	filters map[uint64]struct{} // by their hash, those asked for included
	waiting map[uint16]asked    // by packet identifier, those whose SUBACK has not come
	blind   bool                // there was a SUBSCRIBE that is not in waiting
}

// asked is what is waited for under one packet identifier.
type asked struct {
	answers int
	// added is empty if there is more than one answer, since a client that uses an identifier
	// again could have the wrong filters counted as refused.
	added []addedFilter
}

// addedFilter is a filter that a SUBSCRIBE has added.
type addedFilter struct {
	at  int    // place among the filters that were passed on
	key uint64 // in subscriptions.filters
}

// maxWaiting bounds the SUBSCRIBEs whose answers are waited for. Once there are more, all filters
// count as if they were granted.
const maxWaiting = 1024

// add counts a filter. It reports whether it was not counted before, and ok as false if that
// would be more than limit.
func (s *subscriptions) add(filter string, limit int) (key uint64, isNew, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted == nil {
		s.counted = &counted{filters: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
	}
	key = maphash.String(s.seed, filter)
	if _, ok := s.filters[key]; ok {
		return key, false, true
	}
	if len(s.filters) >= limit {
		return key, false, false
	}
	s.filters[key] = struct{}{}
	return key, true, true
}

// remove ends the count of the filters of an UNSUBSCRIBE that are passed on.
func (s *subscriptions) remove(u *packets.Subscribe, codes []packets.ReasonCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted == nil {
		return
	}
	i := -1
	for filter := range u.All() {
		if i++; codes[i] == passedOn {
			delete(s.filters, maphash.String(s.seed, filter))
		}
	}
}

// ask records which filters a SUBSCRIBE has added, if any, before it is passed on.
func (s *subscriptions) ask(id uint16, added []addedFilter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[id]
	switch {
	case w.answers > 0:
		added = nil
	case len(s.waiting) == maxWaiting:
		s.blind = true
		return
	}
	if s.waiting == nil {
		s.waiting = map[uint16]asked{}
	}
	s.waiting[id] = asked{w.answers + 1, added}
}

// any reports whether a SUBACK is waited for.
func (s *subscriptions) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counted != nil && len(s.waiting) > 0
}

// answered ends the count of the filters that the broker's SUBACK refuses.
func (s *subscriptions) answered(id uint16, codes []packets.ReasonCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted == nil {
		return
	}
	w := s.waiting[id]
	if w.answers > 1 {
		s.waiting[id] = asked{answers: w.answers - 1}
		return
	}
	if delete(s.waiting, id); len(s.waiting) == 0 {
		s.waiting = nil // an empty map keeps its memory
	}
	if s.blind {
		return
	}
	for _, f := range w.added {
		if f.at < len(codes) && codes[f.at] >= 0x80 {
			delete(s.filters, f.key)
		}
	}
}
