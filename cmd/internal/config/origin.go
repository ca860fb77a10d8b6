package config

import (
	"fmt"
	"strings"
)

// origin is where a value was set.
type origin struct {
	from     from
	line     int    // in the file
	variable string // of the environment, or the flag
}

type from int

const (
	fromDefault from = iota
	fromFile
	fromEnvironment
	fromFlag
)

// fault locates a mistake about the key at path. Whatever the reason repeats of a file
// or the environment is made printable here, for all faults.
func (o origin) fault(source, path, reason string) Fault {
	reason = printable(reason)
	switch o.from {
	case fromEnvironment:
		// A list that one variable sets has elements without a name of their own.
		if i := strings.LastIndexByte(path, '['); strings.HasSuffix(path, "]") && o.variable == variable(path[:i]) {
			reason = "element " + path[i+1:len(path)-1] + " " + reason
		}
		return Fault{Source: "environment", Key: printableKey(o.variable, maxVariable), Reason: reason}
	case fromFlag:
		return Fault{Source: "flag", Key: o.variable, Reason: reason}
	}
	if source == "" {
		source = "default"
	}
	return Fault{Source: source, Line: o.line, Key: path, Reason: reason}
}

// comment is how [Config.Render] names the origin.
func (o origin) comment(source string) string {
	switch o.from {
	case fromFile:
		return fmt.Sprintf("# %s:%d", source, o.line)
	case fromEnvironment:
		return "# environment"
	case fromFlag:
		return "# flag " + o.variable
	}
	return "# default"
}

// origins holds where each value was set, by path.
type origins map[string]origin

// of returns where a key or, failing that, the section around it was set.
func (m origins) of(path string) origin {
	for p := path; p != ""; p = parent(p) {
		o, ok := m[p]
		if !ok {
			continue
		}
		if p != path && o.from == fromEnvironment {
			o.variable = variable(path)
		}
		return o
	}
	return origin{}
}
