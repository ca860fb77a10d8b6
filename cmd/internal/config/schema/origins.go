package schema

import (
	"fmt"
	"maps"
	"strings"
)

// Origins says where the values of a loaded configuration were set.
type Origins struct {
	// Hash names the content that was loaded, in hexadecimal: the config file, the environment, the
	// flags and every secret file. Content with the same hash yields the same configuration. Do not
	// publish it: a weak secret can be guessed from it.
	Hash string
	// Files are the absolute paths of the files whose content is in Hash.
	Files []string
	// Warnings are mistakes that do not stop the program: secrets that every user of the machine
	// may read.
	Warnings []Fault

	prefix string // of variables
	source string // the config file as the operator named it
	at     map[string]origin
	paths  map[string]string
}

// Paths returns every file and directory that the configuration names, by key.
func (o *Origins) Paths() map[string]string { return maps.Clone(o.paths) }

// Fault returns a mistake that was found after [Load], such as a file that cannot be opened. Its
// place is where the key, or else the section around it, was set.
func (o *Origins) Fault(key, reason string) Fault { return o.fault(o.of(key), key, reason) }

// of returns where a key or, failing that, the section around it was set.
func (o *Origins) of(path string) origin {
	for p := path; p != ""; p = parent(p) {
		at, ok := o.at[p]
		if !ok {
			continue
		}
		if p != path && at.from == fromEnvironment {
			at.variable = variable(o.prefix, path)
		}
		return at
	}
	return origin{}
}

// fault locates a mistake about the key at path. Text that the reason repeats from a file
// or the environment is made printable here, for all faults.
func (o *Origins) fault(at origin, path, reason string) Fault {
	reason = printable(reason)
	switch at.from {
	case fromEnvironment:
		// The elements of a list that one variable sets have no variable of their own.
		if i := strings.LastIndexByte(path, '['); strings.HasSuffix(path, "]") && at.variable == variable(o.prefix, path[:i]) {
			reason = "element " + path[i+1:len(path)-1] + " " + reason
		}
		return Fault{Source: "environment", Key: printableKey(at.variable, maxVariable), Reason: reason}
	case fromFlag:
		return Fault{Source: "flag", Key: at.variable, Reason: reason}
	}
	source := o.source
	if source == "" {
		source = "default"
	}
	return Fault{Source: source, Line: at.line, Key: path, Reason: reason}
}

// comment is how [Origins.Render] names the origin of a value. Origins that were not
// loaded have none.
func (o *Origins) comment(path string) string {
	if o.at == nil {
		return ""
	}
	switch at := o.at[path]; at.from {
	case fromFile:
		return fmt.Sprintf("# %s:%d", o.source, at.line)
	case fromEnvironment:
		return "# environment"
	case fromFlag:
		return "# flag " + at.variable
	}
	return ofDefault
}

// ofDefault is the comment about a value that was set nowhere.
const ofDefault = "# default"

// origin is where one value was set.
type origin struct {
	from     from
	line     int    // in the file
	variable string // of the environment, or the flag
}

// from is a kind of origin. A later one takes precedence over an earlier one.
type from int

const (
	fromDefault from = iota
	fromFile
	fromEnvironment
	fromFlag
)
