package cache

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// narrowings stores the tokens whose answers depend on fewer parts of the request than the
// source looks at. As long as there is none, no lookup is needed.
type narrowings struct {
	any  atomic.Bool
	mu   sync.Mutex
	vary *simplelru.LRU[key, Field] // by the key of the token alone
}

func newNarrowings(size int) *narrowings {
	n := &narrowings{}
	n.vary, _ = simplelru.NewLRU[key, Field](size, nil) // the size is at least one
	return n
}

// key returns the key under which an answer to r would be stored.
func (c *Cache) key(r *authz.Request) key {
	if !c.narrow.any.Load() {
		return c.keys.of(r)
	}
	token := c.keys.narrowed(r, 0)
	c.narrow.mu.Lock()
	vary, ok := c.narrow.vary.Get(token)
	c.narrow.mu.Unlock()
	if !ok {
		return c.keys.of(r)
	}
	return c.keys.narrowed(r, vary)
}

// keyFor returns the key under which f's answer is stored, and makes later requests with the
// token use it. If it differs from f's key, the answer under f's key is removed, because no
// request would find it any more.
func (c *Cache) keyFor(f *flight, keep authz.Keep) key {
	if !keep.Narrow && !c.narrow.any.Load() {
		return f.key
	}
	vary := c.options.Vary
	if keep.Narrow {
		vary &= keep.Vary
	}
	c.narrow.any.Store(true)
	c.narrow.mu.Lock()
	c.narrow.vary.Add(c.keys.narrowed(&f.request, 0), vary)
	c.narrow.mu.Unlock()
	k := c.keys.narrowed(&f.request, vary)
	if k != f.key {
		c.shard(f.key).drop(f.key)
	}
	return k
}
