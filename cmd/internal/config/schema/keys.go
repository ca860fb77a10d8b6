package schema

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Key describes one key, for manuals and completion.
type Key struct {
	Path        string // list positions are empty: listeners[].address
	Environment string // list positions are N: APP_LISTENERS_N_ADDRESS
	Type        string // "duration", "list of string", "list of section" ...
	Default     string // as it is written in YAML; empty for none
	Allowed     string // choices or range; empty for any value of the type
	Zero        string // the zero tag, see the package comment
	Doc         string // one line
}

// Keys returns every key that a file for a T may set, in the order of [Origins.Render].
// Sections appear through the keys in them, lists of sections also by themselves. The
// prefix is that of [Options].
func Keys[T any](prefix string) []Key { return keysOf(nil, prefix, reflect.TypeFor[T](), "") }

func keysOf(keys []Key, prefix string, section reflect.Type, path string) []Key {
	for _, f := range fieldsOf(section) {
		path := join(path, f.key)
		if f.list || f.kind != kindSection {
			keys = append(keys, f.describe(prefix, path))
		}
		if f.kind == kindSection {
			if f.list {
				path += "[]"
			}
			keys = keysOf(keys, prefix, f.section(), path)
		}
	}
	return keys
}

func (f field) describe(prefix, path string) Key {
	k := Key{
		Path: path, Environment: variable(prefix, path), Type: string(f.kind),
		Default: f.value, Allowed: f.bounds(), Zero: f.zero, Doc: f.doc,
	}
	switch {
	case f.single:
		k.Type += " or list of " + k.Type
	case f.short != "":
		i := slices.IndexFunc(fieldsOf(f.section()), func(one field) bool { return one.key == f.short })
		k.Type = fmt.Sprintf("list of %s or section", fieldsOf(f.section())[i].kind)
	case f.list:
		k.Type = "list of " + k.Type
	}
	return k
}

// bounds returns the choices or the range of a value.
func (f field) bounds() string {
	switch {
	case f.allowed != nil:
		return strings.Join(f.allowed, ", ")
	case f.list || f.min == "":
		return ""
	case f.max == "":
		return "at least " + f.min
	}
	return f.min + " to " + f.max
}
