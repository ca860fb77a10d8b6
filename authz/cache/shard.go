package cache

import (
	"container/list"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// shards is the number of parts of the stores. Each has its own lock.
const shards = 16

// entry is a stored grant. Its ages count from the time the source was asked. It remains after
// it has expired until it is evicted: it may be used while the source is down, and it shows
// that its key was valid before.
type entry struct {
	key     key
	hash    [32]byte // of the token
	grant   *authz.Grant
	asked   time.Time
	refresh time.Duration // age from which a hit starts a refresh
	ttl     time.Duration // age from which it is no longer used
	stale   time.Duration // age from which it is not used even in an outage
	counted bool          // its expiration was counted
	bytes   int
	place   *list.Element // in the list of its token
	links   [2]links
}

// fresh reports whether e may be used without asking the source.
func (e *entry) fresh(now time.Time) bool {
	return now.Sub(e.asked) < e.ttl && !expired(e.grant, now)
}

func expired(g *authz.Grant, now time.Time) bool {
	return !g.Expires.IsZero() && !now.Before(g.Expires)
}

// refusal is a stored denial.
type refusal struct {
	denial *authz.Denial
	asked  time.Time
	ttl    time.Duration
}

// shard is one part of both stores. A key is in one of them at most.
type shard struct {
	mu       sync.Mutex
	grants   map[key]*entry
	denials  *simplelru.LRU[key, refusal]
	holders  holders
	indexes  indexes
	size     int // the maximum number of grants
	bytes    int // of all grants
	maxBytes int
	positive StoreStats
	negative StoreStats
	stale    uint64
}

func newShard(o Options) *shard {
	s := &shard{
		grants:   map[key]*entry{},
		holders:  newHolders(),
		indexes:  newIndexes(),
		size:     (o.Size + shards - 1) / shards,
		maxBytes: (o.Bytes + shards - 1) / shards,
	}
	// The only possible error is a size below one.
	s.denials, _ = simplelru.NewLRU[key, refusal]((o.NegativeSize+shards-1)/shards, nil)
	return s
}

// removeGrant removes the grant of k, if there is one.
func (s *shard) removeGrant(k key) {
	e, ok := s.grants[k]
	if !ok {
		return
	}
	delete(s.grants, k)
	s.holders.remove(e)
	s.indexes.remove(e)
	s.bytes -= e.bytes
}

// evictOne makes room for one grant.
func (s *shard) evictOne() {
	s.removeGrant(s.holders.first().key)
	s.positive.Evictions++
}

// found is the result of looking up a key.
type found struct {
	grant   *authz.Grant
	denial  *authz.Denial
	known   bool // there is a grant, expired or not
	refresh bool // the grant should be renewed
}

// find looks for an answer to k that is younger than maxAge.
func (s *shard) find(k key, now time.Time, maxAge time.Duration) (f found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.grants[k]; ok {
		s.holders.use(e)
		f.known = true
		age := now.Sub(e.asked)
		switch fresh := e.fresh(now); {
		case fresh && age < maxAge:
			s.positive.Hits++
			f.grant = e.grant
			if age >= e.refresh {
				f.refresh = true
				e.refresh = age + cooldown // the next attempt, if this one fails
			}
		case !fresh && !e.counted:
			e.counted = true
			s.positive.Expirations++
		}
		return f
	}
	if r, ok := s.denials.Get(k); ok {
		switch age := now.Sub(r.asked); {
		case age >= r.ttl:
			s.denials.Remove(k)
			s.negative.Expirations++
		case age < maxAge:
			s.negative.Hits++
			f.denial = r.denial
		}
	}
	return f
}

// findStale returns a grant that may be used while the source is unavailable.
func (s *shard) findStale(k key, now time.Time) *authz.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.grants[k]
	if !ok || now.Sub(e.asked) >= e.stale || expired(e.grant, now) {
		return nil
	}
	if !e.fresh(now) {
		s.stale++
	}
	return e.grant
}

// putGrant stores e and replaces the previous answer for its key.
func (s *shard) putGrant(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denials.Remove(e.key)
	s.removeGrant(e.key)
	if len(s.grants) == s.size {
		s.evictOne()
	}
	s.grants[e.key] = e
	s.holders.add(e)
	s.indexes.add(e)
	s.bytes += e.bytes
	for s.bytes > s.maxBytes {
		s.evictOne()
	}
}

// putDenial stores r and replaces the previous answer for k.
func (s *shard) putDenial(k key, r refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeGrant(k)
	if s.denials.Add(k, r) {
		s.negative.Evictions++
	}
}

// drop removes the answer for k.
func (s *shard) drop(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeGrant(k)
	s.denials.Remove(k)
}

// evict removes the grants that r names and returns their number.
func (s *shard) evict(r authz.Revocation) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []key
	switch {
	case r.TokenID != "":
		keys = s.indexes.byTokenID.keys(r.TokenID)
	case r.Subject != "":
		keys = s.indexes.bySubject.keys(r.Subject)
	default:
		keys = s.holders.keys(r.TokenHash)
	}
	for _, k := range keys {
		s.removeGrant(k)
	}
	return len(keys)
}

// purge removes all answers and returns their number.
func (s *shard) purge() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.grants) + s.denials.Len()
	s.grants, s.holders, s.indexes, s.bytes = map[key]*entry{}, newHolders(), newIndexes(), 0
	s.denials.Purge()
	return n
}

// dropDenials drops all denials.
func (s *shard) dropDenials() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denials.Purge()
}

// addTo adds the shard's numbers to t.
func (s *shard) addTo(t *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Positive.add(s.positive)
	t.Positive.Entries += len(s.grants)
	t.Positive.Bytes += s.bytes
	t.Negative.add(s.negative)
	t.Negative.Entries += s.denials.Len()
	t.Stale += s.stale
}
