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
	mu      sync.Mutex
	seed    maphash.Seed
	filters map[uint64]struct{}      // by their hash, those asked for included
	waiting map[uint16][]addedFilter // by packet identifier, those whose SUBACK has not come
}

// addedFilter is a filter that a SUBSCRIBE has added.
type addedFilter struct {
	at  int    // place among the filters that were passed on
	key uint64 // in subscriptions.filters
}

// maxWaiting bounds the SUBSCRIBEs whose answers are waited for. The filters of those beyond
// it count as if they were granted.
const maxWaiting = 1024

// add counts a filter. It reports whether it was not counted before, and ok as false if that
// would be more than limit.
func (s *subscriptions) add(filter string, limit int) (key uint64, isNew, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filters == nil {
		s.filters, s.waiting, s.seed = map[uint64]struct{}{}, map[uint16][]addedFilter{}, maphash.MakeSeed()
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

// remove ends the count of a filter.
func (s *subscriptions) remove(filter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filters != nil {
		delete(s.filters, maphash.String(s.seed, filter))
	}
}

// ask records which filters a SUBSCRIBE has added, before it is passed on.
func (s *subscriptions) ask(id uint16, added []addedFilter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) < maxWaiting {
		s.waiting[id] = added
	}
}

// any reports whether a SUBACK is waited for.
func (s *subscriptions) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) > 0
}

// answered ends the count of the filters that the broker's SUBACK refuses.
func (s *subscriptions) answered(id uint16, codes []packets.ReasonCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.waiting[id] {
		if f.at < len(codes) && codes[f.at] >= 0x80 {
			delete(s.filters, f.key)
		}
	}
	delete(s.waiting, id)
}
