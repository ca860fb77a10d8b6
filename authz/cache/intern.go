package cache

import (
	"hash/maphash"
	"maps"
	"reflect"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// maxInterned is how many grants, and how many sets of attributes, can be shared.
const maxInterned = 4096

// interner replaces equal grants by one object, and does the same with equal attributes and
// topic rules of different grants: a fleet has many tokens, but few different attributes and
// rules. In BenchmarkFleet a grant with three attributes takes 880 bytes instead of 1,380; with
// two topic rules as well, it takes 880 instead of 1,580.
type interner struct {
	seed   maphash.Seed
	mu     sync.Mutex
	grants *simplelru.LRU[string, *authz.Grant] // by token id
	attrs  *simplelru.LRU[uint64, map[string]string]
	acls   *simplelru.LRU[string, *authz.ACL]
}

func newInterner() *interner {
	x := &interner{seed: maphash.MakeSeed()}
	x.grants, _ = simplelru.NewLRU[string, *authz.Grant](maxInterned, nil)
	x.attrs, _ = simplelru.NewLRU[uint64, map[string]string](maxInterned, nil)
	x.acls, _ = simplelru.NewLRU[string, *authz.ACL](maxInterned, nil)
	return x
}

// intern returns a grant that is equal to g.
func (x *interner) intern(g *authz.Grant) *authz.Grant {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.grants.Get(g.TokenID); ok && reflect.DeepEqual(old, g) {
		return old
	}
	if len(g.Attrs) > 0 {
		g = x.withSharedAttrs(g)
	}
	if g.ACL != nil {
		g = x.withSharedACL(g)
	}
	x.grants.Add(g.TokenID, g)
	return g
}

func (x *interner) withSharedAttrs(g *authz.Grant) *authz.Grant {
	var sum uint64 // of the pairs, independent of their order
	for k, v := range g.Attrs {
		sum ^= maphash.Comparable(x.seed, [2]string{k, v})
	}
	attrs, ok := x.attrs.Get(sum)
	if !ok || !maps.Equal(attrs, g.Attrs) {
		x.attrs.Add(sum, g.Attrs)
		return g
	}
	twin := *g // g itself belongs to the source
	twin.Attrs = attrs
	return &twin
}

func (x *interner) withSharedACL(g *authz.Grant) *authz.Grant {
	rules := g.ACL.String()
	acl, ok := x.acls.Get(rules)
	if !ok || !acl.Equal(g.ACL) {
		x.acls.Add(rules, g.ACL)
		return g
	}
	twin := *g
	twin.ACL = acl
	return &twin
}

// weigh estimates the memory in bytes that g takes if nothing of it is shared.
func weigh(g *authz.Grant) int {
	const (
		fixed  = 1024 // entry, grant, places in map, list and indexes
		pair   = 48   // of strings in a map
		header = 16   // of a string in a slice
		prefix = 32
	)
	n := fixed + len(g.TokenID) + len(g.Subject) +
		len(g.Upstream.Username) + len(g.Upstream.ClientID) + len(g.Upstream.Password.Reveal())
	for k, v := range g.Attrs {
		n += pair + len(k) + len(v)
	}
	for _, texts := range [][]string{g.Only.ClientIDs, g.Only.Usernames, g.Only.Certificates} {
		for _, s := range texts {
			n += header + len(s)
		}
	}
	if g.ACL != nil {
		n += len(g.ACL.String())
	}
	return n + prefix*len(g.Only.Addrs)
}
