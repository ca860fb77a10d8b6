package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxFaults bounds the report on a hostile file; more are only counted.
const maxFaults = 100

// A Fault is one mistake and where it was made.
type Fault struct {
	// Source is the config file as the operator named it, "environment",
	// "flag" or "default".
	Source string
	// Line counts from 1 in the file; 0 where no line is to blame.
	Line int
	// Key is the path of the key, the name of the variable, the flag, or empty
	// when the file as a whole is at fault.
	Key string
	// Reason says what is wrong, what is allowed and what to do. It never
	// carries a secret.
	Reason string
}

// String returns "file:line: key: reason", without the parts that are empty.
func (f Fault) String() string {
	s := f.Source
	if f.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, f.Line)
	}
	if f.Key != "" {
		s += ": " + f.Key
	}
	return s + ": " + f.Reason
}

// Fault returns a mistake that came to light after Load: what the key says cannot be
// had. Its place is where the key, or else the section around it, was set.
func (c *Config) Fault(key, reason string) Fault {
	return c.origins.of(key).fault(c.source, key, reason)
}

// Error is every fault of a configuration: the file's by line, then the rest by
// name.
type Error struct {
	Faults []Fault
	// Hash names the content at fault, see [Config.Hash], so that a poller
	// reports a bad file once.
	Hash string
}

// Error returns one line for each fault.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// sortFaults orders faults for reading and bounds their number.
func sortFaults(faults []Fault) []Fault {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Line, b.Line), compareNames(a.Key, b.Key))
	})
	if len(faults) <= maxFaults {
		return faults
	}
	rest := Fault{Source: faults[0].Source, Reason: fmt.Sprintf("%d more faults are not listed; mend these first", len(faults)-maxFaults)}
	return append(faults[:maxFaults:maxFaults], rest)
}

func rank(f Fault) int { return slices.Index([]string{"default", "flag", "environment"}, f.Source) }

// faults collects mistakes.
type faults struct {
	source     string
	list       []Fault
	at         map[string]bool // paths at fault
	misspelled map[string]bool // sections with an unknown key, which may be the one that seems missing
}

func newFaults(source string) *faults {
	return &faults{source: source, at: map[string]bool{}, misspelled: map[string]bool{}}
}

func (f *faults) add(at origin, path, reason string) {
	f.list = append(f.list, at.fault(f.source, path, reason))
	f.at[path] = true
}

// around reports whether the key at path, or a section around it, is at fault.
func (f *faults) around(path string) bool {
	for ; path != ""; path = parent(path) {
		if f.at[path] {
			return true
		}
	}
	return false
}

// within reports whether the key at path, or anything in it, is at fault.
func (f *faults) within(path string) bool {
	for p := range f.at {
		if rest, ok := strings.CutPrefix(p, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}
