package schema

import (
	"slices"
	"strconv"
	"strings"
)

// node is one value as it was written, before the struct says what it means. File,
// environment, flags and defaults all become nodes, so that one decoder reads them all and
// each keeps its origin.
type node struct {
	form    form
	origin  origin
	text    string  // of a scalar; of a broken node the reason of the fault
	items   []*node // of a list
	entries []entry // of a section, in order, with repetitions
}

type entry struct {
	key    string
	origin origin
	value  *node
	fault  string // what is wrong with the key itself, in which case value is nil
}

type form int

const (
	scalar form = iota
	list
	section
	null   // nothing after the colon
	broken // not a value, for the reason in text
)

// String names the form as a fault does.
func (f form) String() string {
	return [...]string{"a plain value", "a list", "a section", "nothing", "nothing"}[f]
}

// get returns the value of a key. It returns the first if the key is set twice, and nil if
// the key is not set or n is no section.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	if i := n.find(key); i >= 0 {
		return n.entries[i].value
	}
	return nil
}

// len returns the number of elements of a list, 0 for nil.
func (n *node) len() int {
	if n == nil {
		return 0
	}
	return len(n.items)
}

func (n *node) find(key string) int {
	return slices.IndexFunc(n.entries, func(e entry) bool { return e.key == key })
}

// set adds or replaces the value of a key.
func (n *node) set(key string, v *node) {
	e := entry{key: key, origin: v.origin, value: v}
	if i := n.find(key); i >= 0 {
		n.entries[i] = e
		return
	}
	n.entries = append(n.entries, e)
}

// remove removes a key that was set with a lower precedence than at has.
func (n *node) remove(key string, at origin) {
	if i := n.find(key); i >= 0 && n.entries[i].origin.from < at.from {
		n.entries = slices.Delete(n.entries, i, i+1)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// parent returns the path of the section or list around a key.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// Element returns the path of an element of the list at path, such as listeners[0].
func Element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
