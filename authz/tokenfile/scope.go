package tokenfile

import (
	"crypto/sha256"
	"slices"
)

// Scope selects the entries that any of its fields names. An edit of entries in another store looks
// up only these, so that only these have to be loaded.
type Scope struct {
	// Names are ids and devices.
	Names []string
	// Pattern selects by id and device, see [Edit.Match]; empty means none.
	Pattern string
	// Tokens are SHA-256 digests of tokens.
	Tokens [][sha256.Size]byte
	// Usernames are user names of entries with a password.
	Usernames []string
}

// All is the scope of all entries.
func All() Scope { return Scope{Pattern: "*"} }

// selects returns the function that reports whether an entry is in the scope.
func (s Scope) selects() func(*entry) bool {
	named, hashes := s.names(), make(map[[sha256.Size]byte]bool, len(s.Tokens)+len(s.Usernames))
	for _, hash := range s.Tokens {
		hashes[hash] = true
	}
	for _, name := range s.Usernames {
		hashes[hashOfUser(name)] = true
	}
	return func(e *entry) bool { return named(e.id) || named(e.subject) || hashes[e.hash] }
}

// names returns the function that reports whether all entries with a name as their id or device
// are in the scope.
func (s Scope) names() func(string) bool {
	names := make(map[string]bool, len(s.Names))
	for _, name := range s.Names {
		names[name] = true
	}
	match := s.matcher()
	return func(name string) bool { return names[name] || match(name) }
}

// matcher returns the function that applies the pattern of the scope.
func (s Scope) matcher() func(string) bool {
	if s.Pattern == "" {
		return func(string) bool { return false }
	}
	return matcher(s.Pattern)
}

// Scope returns what [Edit.Import] of the batch looks up.
func (b *Batch) Scope() (s Scope) {
	for _, x := range b.items {
		s.Names = append(s.Names, x.entry.id, x.entry.subject)
		if x.entry.isPair() {
			s.Usernames = append(s.Usernames, x.entry.detail.usernames...)
		} else {
			s.Tokens = append(s.Tokens, x.entry.hash)
		}
	}
	slices.Sort(s.Names)
	s.Names = slices.Compact(s.Names)
	return s
}

// mustCover panics if entries with the name may not have been loaded.
func (d *document) mustCover(name string) {
	if d.scope != nil && !d.inScope(name) && d.snap.withID(name) == nil {
		panic("tokenfile: an edit looks up an entry outside of its scope")
	}
}

// matcher returns the function that applies a pattern. It panics if the entries that the pattern
// matches may not have been loaded.
func (d *document) matcher(pattern string) func(string) bool {
	if d.scope != nil && d.scope.Pattern != pattern {
		panic("tokenfile: an edit looks up a pattern outside of its scope")
	}
	return matcher(pattern)
}
