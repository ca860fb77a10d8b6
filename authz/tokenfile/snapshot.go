package tokenfile

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// snapshot is the content of one version of the file. It is immutable. Versions share the
// blocks, and the parts of the indexes, that are the same in both.
type snapshot struct {
	byHash, byID index
	blocks       []placed // the whole file
	pairs        int      // how many entries have a user name and a password
	end          int      // the line number of the end line, or 0
	blank        bool     // all lines are blank
}

// withHash returns the entry of the token with that digest, nil if there is none.
func (s *snapshot) withHash(hash *[sha256.Size]byte) *entry {
	sum := binary.LittleEndian.Uint64(hash[:])
	for _, c := range s.byHash.with(sum) {
		if c.sum == sum && c.entry.hash == *hash {
			return c.entry
		}
	}
	return nil
}

// withID returns the entry with that id, nil if there is none.
func (s *snapshot) withID(id string) *entry {
	sum := sumOfText(id)
	for _, c := range s.byID.with(sum) {
		if c.sum == sum && c.entry.id == id {
			return c.entry
		}
	}
	return nil
}

// len returns the number of entries.
func (s *snapshot) len() int { return s.byID.count }

// bySum returns the blocks that a later version may use again.
func (s *snapshot) bySum() map[blockSum]*block {
	all := make(map[blockSum]*block, len(s.blocks))
	for _, b := range s.blocks {
		if b.plain {
			all[b.sum] = b.block
		}
	}
	return all
}

// blockSet returns the blocks.
func (s *snapshot) blockSet() map[*block]bool {
	all := make(map[*block]bool, len(s.blocks))
	for _, b := range s.blocks {
		all[b.block] = true
	}
	return all
}

// entry is one token. There may be a million, so the rarer fields are in detail.
type entry struct {
	id, subject        string
	hash               [sha256.Size]byte
	expires, notBefore int64 // seconds since 1970, 0 for none
	detail             *detail
	grant              atomic.Pointer[authz.Grant] // made on first use
	line               int32                       // see block
	disabled           bool
}

// detail has an entry's rarer fields. Entries with equal details share it.
type detail struct {
	clientIDs, usernames []string
	password             *password // of the one user name, instead of a token
	addrs                []netip.Prefix
	certificates         []string
	upstream             authz.Upstream
	role                 authz.Role
	gateway              bool
	acl                  *authz.ACL
	limits               authz.Limits
	attrs                map[string]string
}

// entries returns all entries in the order of the file, each with the number of its line.
func (s *snapshot) entries() iter.Seq2[int, *entry] {
	return func(yield func(int, *entry) bool) {
		for _, b := range s.blocks {
			for i := range b.entries {
				if e := &b.entries[i]; !yield(b.line+int(e.line), e) {
					return
				}
			}
		}
	}
}

// all returns all entries in the order of the file.
func (s *snapshot) all() iter.Seq[*entry] { return s.without(&snapshot{}) }

// without returns the entries that stand in blocks which other does not have.
func (s *snapshot) without(other *snapshot) iter.Seq[*entry] {
	shared := other.blockSet()
	return func(yield func(*entry) bool) {
		for _, b := range s.blocks {
			if shared[b.block] {
				continue
			}
			for i := range b.entries {
				if !yield(&b.entries[i]) {
					return
				}
			}
		}
	}
}

// notKept forbids caching an answer: a lookup is as fast, and a cached answer would not change
// with the file.
func notKept() authz.Keep { return authz.Keep{TTL: -1, Stale: -1} }

// authorization returns the entry's grant, which all sessions share.
func (e *entry) authorization() *authz.Grant {
	if g := e.grant.Load(); g != nil {
		return g
	}
	if g := e.newGrant(); e.grant.CompareAndSwap(nil, g) {
		return g
	}
	return e.grant.Load()
}

// newGrant returns a grant that is not kept with the entry.
func (e *entry) newGrant() *authz.Grant {
	g := &authz.Grant{TokenID: e.id, Subject: e.subject, Expires: unix(e.expires), Keep: notKept()}
	g.Only.NotBefore = unix(e.notBefore)
	if d := e.detail; d != nil {
		g.Only.ClientIDs, g.Only.Usernames, g.Only.Addrs = d.clientIDs, d.usernames, d.addrs
		if d.password != nil {
			g.PairHash, g.Keep = d.password.pair, authz.Keep{}
		}
		g.Only.Certificates = d.certificates
		g.Upstream, g.Role, g.Gateway, g.ACL, g.Limits, g.Attrs = d.upstream, d.role, d.gateway, d.acl, d.limits, d.attrs
	}
	return g
}

// unix returns the time of a field, or the zero time if there is none.
func unix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// change says how an entry differs from the one with the same id in the previous version.
type change uint8

const (
	same change = iota
	// kept: sessions continue.
	kept
	// shortened: sessions continue until the new expiry.
	shortened
	// altered: sessions continue with the new grant.
	altered
	// ended: sessions end, though their devices may be able to reconnect.
	ended
)

// changeFrom compares the entry with the old one that has the same id.
func (e *entry) changeFrom(old *entry) change {
	identity := e.hash == old.hash && e.subject == old.subject && e.notBefore == old.notBefore && e.rest().sameConditions(old.rest())
	rights := e.rest().sameRights(old.rest())
	switch {
	case identity && rights && e.disabled == old.disabled && e.expires == old.expires:
		return same
	case old.disabled:
		return kept // it has no sessions
	case e.disabled || !identity:
		return ended
	case !rights:
		return altered
	case e.expires != 0 && (old.expires == 0 || e.expires < old.expires):
		return shortened
	}
	return kept
}

// rest returns the rarer fields, also of an entry that has none.
func (e *entry) rest() *detail {
	if e.detail == nil {
		return &detail{}
	}
	return e.detail
}

// sameConditions reports whether both can be used by the same devices, which the broker then
// knows as the same.
func (d *detail) sameConditions(o *detail) bool {
	return slices.Equal(d.clientIDs, o.clientIDs) && slices.Equal(d.usernames, o.usernames) && slices.Equal(d.addrs, o.addrs) &&
		slices.Equal(d.certificates, o.certificates) && d.password.equal(o.password) &&
		d.upstream.Username == o.upstream.Username && d.upstream.Password.Equal(o.upstream.Password) &&
		d.upstream.ClientID == o.upstream.ClientID && d.role == o.role && d.gateway == o.gateway
}

// equal reports whether both say the same.
func (d *detail) equal(o *detail) bool { return d.sameConditions(o) && d.sameRights(o) }

// sameRights reports whether both allow the same.
func (d *detail) sameRights(o *detail) bool {
	return d.acl.Equal(o.acl) && d.limits.Equal(o.limits) && maps.Equal(d.attrs, o.attrs)
}

// difference says what changed between two versions of the file.
type difference struct {
	added, removed, changed int
	// ids, see change
	ended, shortened, altered []string
}

// since compares the snapshot with an older one, and takes over the grants of entries that
// are the same, so that sessions go on sharing them. It must be called before the snapshot
// is published.
func (s *snapshot) since(old *snapshot) (d difference) {
	s.shareDetails(old)
	for e := range s.without(old) {
		was := old.withID(e.id)
		if was == nil {
			d.added++
			continue
		}
		switch e.changeFrom(was) {
		case same:
			e.grant.Store(was.grant.Load())
			continue
		case ended:
			d.ended = append(d.ended, e.id)
		case altered:
			d.altered = append(d.altered, e.id)
		case shortened:
			d.shortened = append(d.shortened, e.id)
		}
		d.changed++
	}
	for was := range old.without(s) {
		if s.withID(was.id) != nil {
			continue
		}
		d.removed++
		if !was.disabled {
			d.ended = append(d.ended, was.id)
		}
	}
	return d
}

// maxCandidates is among how many details of an older version one that is equal is looked
// for. The lines around a change mostly have the same few.
const maxCandidates = 16

// shareDetails gives entries that were parsed anew the details of the entries that they
// replace, where these are equal. Without that, each change would leave a copy behind.
func (s *snapshot) shareDetails(old *snapshot) {
	var candidates []*detail
	for e := range old.without(s) {
		if e.detail != nil && !slices.Contains(candidates, e.detail) {
			candidates = append(candidates, e.detail)
		}
		if len(candidates) == maxCandidates {
			break
		}
	}
	for e := range s.without(old) {
		if e.detail == nil {
			continue
		}
		if i := slices.IndexFunc(candidates, e.detail.equal); i >= 0 {
			e.detail = candidates[i]
		}
	}
}
