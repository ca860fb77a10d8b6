package cache

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestHolders adds, uses and removes entries at random and compares the entry to evict with
// that of a plain list.
func TestHolders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newHolders()
		var order []*entry // most recently used first
		count := func(hash [32]byte) (n int) {
			for _, e := range order {
				if e.hash == hash {
					n++
				}
			}
			return n
		}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			op := rapid.SampledFrom([]string{"add", "add", "use", "remove", "evict"}).Draw(t, "op")
			if len(order) == 0 {
				op = "add"
			}
			at := 0
			if op == "use" || op == "remove" {
				at = rapid.IntRange(0, len(order)-1).Draw(t, "at")
			}
			switch op {
			case "add":
				e := &entry{key: key{byte(i)}, hash: [32]byte{rapid.Byte().Draw(t, "token") % 5}}
				x.add(e)
				order = slices.Insert(order, 0, e)
			case "use":
				e := order[at]
				x.use(e)
				order = slices.Insert(slices.Delete(order, at, at+1), 0, e)
			case "evict":
				at = slices.Index(order, x.first())
				fallthrough
			case "remove":
				x.remove(order[at])
				order = slices.Delete(order, at, at+1)
			}
			first, most := x.first(), 0
			for _, e := range order {
				most = max(most, count(e.hash))
			}
			switch {
			case len(order) == 0:
				if first != nil || len(x.byHash) != 0 || len(x.levels) != 0 {
					t.Fatalf("%d tokens on %d levels are left of no entries", len(x.byHash), len(x.levels))
				}
				continue
			case count(first.hash) != most:
				t.Fatalf("a token with %d entries gives way, another has %d", count(first.hash), most)
			}
			own := slices.DeleteFunc(slices.Clone(order), func(e *entry) bool { return e.hash != first.hash })
			if own[len(own)-1] != first {
				t.Fatal("it is not the entry that its token used least recently")
			}
		}
	})
}
