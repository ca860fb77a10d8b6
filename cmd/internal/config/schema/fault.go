package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxFaults bounds the report on a hostile file. Further faults are counted only.
const maxFaults = 100

// A Fault is one mistake and where it was made.
type Fault struct {
	// Source is the config file as the operator named it, "environment", "flag" or
	// "default".
	Source string
	// Line counts from 1 in the file. It is 0 where the fault has no line.
	Line int
	// Key is the path of the key, the name of the variable or of the flag. It is empty
	// when the file as a whole is at fault.
	Key string
	// Reason says what is wrong, what is allowed and what to do. It never carries a
	// secret.
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

// Error is every fault of a configuration: first those of the file by line, then the
// others by name.
type Error struct {
	Faults []Fault
	// Hash names the content at fault, see [Origins], so that a program that polls can
	// report a bad file once.
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
	rest := Fault{Source: faults[0].Source, Reason: fmt.Sprintf("%d more faults are not listed; correct these first", len(faults)-maxFaults)}
	return append(faults[:maxFaults:maxFaults], rest)
}

func rank(f Fault) int { return slices.Index([]string{"default", "flag", "environment"}, f.Source) }

// Report collects the faults of a configuration while it is loaded. Checks of several keys use it
// to skip keys that are already at fault, so that a mistake is reported only once.
type Report struct {
	origins    *Origins
	faults     []Fault
	at         map[string]bool // paths at fault
	misspelled map[string]bool // sections with an unknown key
}

// Fault reports a mistake at a key, or at the section that lacks the key, unless the key
// or a section around it is at fault already.
func (r *Report) Fault(key, reason string) {
	if !r.Faulty(key) {
		r.add(r.origins.of(key), key, reason)
	}
}

// IsSet reports whether a key has a value that is not its default.
func (r *Report) IsSet(key string) bool {
	at, ok := r.origins.at[key]
	return ok && at.from != fromDefault
}

// Faulty reports whether any of the keys, or a section around one, is at fault.
func (r *Report) Faulty(keys ...string) bool {
	for _, path := range keys {
		for ; path != ""; path = parent(path) {
			if r.at[path] {
				return true
			}
		}
	}
	return false
}

// FaultyWithin reports whether the key, or anything in its section, is at fault.
func (r *Report) FaultyWithin(key string) bool {
	for p := range r.at {
		if rest, ok := strings.CutPrefix(p, key); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// Misspelled reports whether the section has an unknown key. A key that seems to be
// missing may be that one.
func (r *Report) Misspelled(section string) bool { return r.misspelled[section] }

func (r *Report) add(at origin, path, reason string) {
	r.faults = append(r.faults, r.origins.fault(at, path, reason))
	r.at[path] = true
}
