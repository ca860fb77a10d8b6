package tokenfile

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"slices"
)

// The seeds make the sums of ids, lines and blocks differ from one process to the next.
var seed, secondSeed = maphash.MakeSeed(), maphash.MakeSeed()

// index finds entries by a sum. A copy shares everything with the original except what is
// changed in it, so that the next version of a large file costs little: a Go map would have
// to be copied whole, and takes twice the memory.
type index struct {
	shards [][]slot // chosen by the low bits of the sum; none, or a power of two
	count  int
}

// slot is an entry with its sum, which is compared before the entry is looked at.
type slot struct {
	sum   uint64
	entry *entry
}

const (
	fewSlots  = 8  // in a shard, on average, of an index that is new
	manySlots = 32 // above which there must be more shards
)

func sumOfHash(e *entry) uint64    { return binary.LittleEndian.Uint64(e.hash[:]) }
func sumOfID(e *entry) uint64      { return sumOfText(e.id) }
func sumOfText(text string) uint64 { return maphash.String(seed, text) }

// newIndex returns an index of n entries. It reports false if two of them are the same.
func newIndex(n int, all iter.Seq[*entry], sum func(*entry) uint64, same func(a, b *entry) bool) (x index, unique bool) {
	shards := 1
	for shards*fewSlots < n {
		shards *= 2
	}
	x.shards = make([][]slot, shards)
	sizes, sums := make([]int32, shards), make([]uint64, 0, n)
	for e := range all {
		s := sum(e)
		sums = append(sums, s)
		sizes[x.of(s)]++
	}
	room := make([]slot, len(sums)) // for all shards
	for i, size := range sizes {
		x.shards[i], room = room[:0:size], room[size:]
	}
	for e := range all {
		s := sums[x.count]
		for _, other := range x.with(s) {
			if other.sum == s && same(other.entry, e) {
				return index{}, false
			}
		}
		x.add(slot{s, e})
	}
	return x, true
}

// of returns which shard has the sum.
func (x *index) of(sum uint64) int { return int(sum) & (len(x.shards) - 1) }

// with returns the slots in which an entry with that sum can be.
func (x *index) with(sum uint64) []slot {
	if len(x.shards) == 0 {
		return nil
	}
	return x.shards[x.of(sum)]
}

// clone returns a copy to be changed.
func (x *index) clone() index { return index{shards: slices.Clone(x.shards), count: x.count} }

// crowdedBy reports whether n entries are too many for the index, which should be made anew then.
func (x *index) crowdedBy(n int) bool { return n > manySlots*len(x.shards) }

// add adds an entry to an index with shards. Older versions may share the shard with this
// one; they do not look behind their own end of it.
func (x *index) add(s slot) {
	i := x.of(s.sum)
	x.shards[i] = append(x.shards[i], s)
	x.count++
}

// remove takes an entry out, of a copy of its shard.
func (x *index) remove(s slot) {
	i := x.of(s.sum)
	x.shards[i] = slices.DeleteFunc(slices.Clone(x.shards[i]), func(o slot) bool { return o.entry == s.entry })
	x.count--
}
