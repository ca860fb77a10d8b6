package tokenfile

import (
	"fmt"
	"slices"
	"sort"
)

// found is an entry with the number of its line.
type found struct {
	*entry
	line int
}

func ids(entries []found) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.id
	}
	return all
}

// fewSearches is how many names an edit looks for by reading all entries. For more of them it
// makes an index, which takes as long as several searches.
const fewSearches = 3

// find returns the entries with that id and those of that device, in the order of the file.
func (d *document) find(name string) ([]found, error) {
	d.mustCover(name)
	all := d.search(name)
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	return all, nil
}

// search is like find, but does not check the scope.
func (d *document) search(name string) (all []found) {
	d.searches++
	if d.searches > fewSearches {
		if d.names.shards == nil {
			d.names = newNames(d.snap)
		}
		return d.names.find(d.snap, name)
	}
	for line, e := range d.snap.entries() {
		if e.isCalled(name) {
			all = append(all, found{e, line})
		}
	}
	return all
}

// isCalled reports whether the name is the id of the entry or the name of its device.
func (e *entry) isCalled(name string) bool { return e.id == name || e.subject == name }

// findAll returns the entries that any of the names stands for, each once.
func (d *document) findAll(names []string) ([]found, error) {
	var all []found
	seen := make(map[int]bool)
	for _, name := range names {
		entries, err := d.find(name)
		if d.byID {
			entries = slices.DeleteFunc(entries, func(e found) bool { return e.id != name })
		}
		if err == nil && len(entries) == 0 {
			err = fmt.Errorf("%w: %q", ErrNotFound, name)
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !seen[e.line] {
				seen[e.line] = true
				all = append(all, e)
			}
		}
	}
	return all, nil
}

// names finds entries by their ids and devices. It has no pointers and a few bytes for each
// entry, since it may be made of a million of them for a single edit.
type names struct {
	shards [][]int32 // lines of entries, by the low bits of the sum of a name
}

// newNames returns the names of all entries of s.
func newNames(s *snapshot) names {
	shards := 1
	for shards*fewSlots < s.len() {
		shards *= 2
	}
	n := names{shards: make([][]int32, shards)}
	sizes, all := make([]int32, shards), make([]int32, 0, 2*s.len())
	for _, e := range s.entries() {
		id, subject := n.of(e.id), n.of(e.subject)
		all = append(all, int32(id), int32(subject))
		sizes[id]++
		sizes[subject]++
	}
	room := make([]int32, len(all)) // for all shards
	for i, size := range sizes {
		n.shards[i], room = room[:0:size], room[size:]
	}
	for line := range s.entries() {
		for _, shard := range all[:2] {
			n.shards[shard] = append(n.shards[shard], int32(line))
		}
		all = all[2:]
	}
	return n
}

// of returns in which shard a name is.
func (n names) of(name string) int { return int(sumOfText(name)) & (len(n.shards) - 1) }

// find returns the entries of s, of which n was made, that are called by that name.
func (n names) find(s *snapshot, name string) (all []found) {
	last := 0
	for _, line := range n.shards[n.of(name)] {
		if int(line) == last {
			continue // an id and a device of one entry in the same shard
		}
		last = int(line)
		if e := s.entryAt(last); e.isCalled(name) {
			all = append(all, found{e, last})
		}
	}
	return all
}

// blockOf returns the block that has the line.
func (s *snapshot) blockOf(line int) placed {
	i, _ := slices.BinarySearchFunc(s.blocks, line, func(b placed, line int) int { return b.line + b.lines - 1 - line })
	return s.blocks[i]
}

// entryAt returns the entry that stands in the line.
func (s *snapshot) entryAt(line int) *entry {
	b := s.blockOf(line)
	i := sort.Search(len(b.entries), func(i int) bool { return b.line+int(b.entries[i].line) >= line })
	return &b.entries[i]
}
