package config

import (
	"reflect"
	"strings"
	"time"
)

// kind is how a value is read and what a manual calls its type. It follows from
// the Go type, or from the type tag where the Go type does not tell enough.
type kind string

const (
	kindString   kind = "string"
	kindBoolean  kind = "boolean"
	kindInteger  kind = "integer"
	kindDuration kind = "duration"
	kindSecret   kind = "secret"
	kindSize     kind = "size"      // by tag: int64, bytes
	kindAddress  kind = "address"   // by tag: string, host:port
	kindHost     kind = "host"      // by tag: string, name or IP address
	kindServer   kind = "server"    // by tag: Server
	kindPath     kind = "path"      // by tag: string, see the package comment for what it is relative to
	kindDataPath kind = "data path" // by tag: string, relative to the data directory
	kindRatio    kind = "ratio"     // float64, more than 0 and up to 1
	kindNetwork  kind = "network"   // by tag: string, address/bits
	kindOrigin   kind = "origin"    // by tag: string, of a web page
	kindHeader   kind = "header"    // by tag: string, Name: value
	kindPair     kind = "pair"      // by tag: string, name=value
	kindMemory   kind = "memory"    // by tag: Memory, auto, off or a size
	kindSection  kind = "section"   // a struct, or a pointer to one that is nil unless set
)

// field is one key as the tags of its struct field describe it.
type field struct {
	key      string
	kind     kind
	list     bool   // of kind
	single   bool   // a value that is no list is a list of one
	value    string // default; YAML for a list
	allowed  []string
	min, max string // of the value, or of the length of a list
	required bool   // must not be empty
	doc      string
	index    int // in the struct
	typ      reflect.Type
	pair     string // of a secret and its NAME_file: the other of the two
}

// fieldsOf returns the keys of a section in the order of the manual. A secret is
// followed by its companion NAME_file, which has no struct field of its own.
func fieldsOf(section reflect.Type) []field {
	var fields []field
	for i := range section.NumField() {
		sf := section.Field(i)
		key := sf.Tag.Get("yaml")
		if !sf.IsExported() || key == "-" {
			continue
		}
		f := field{
			key:      key,
			value:    sf.Tag.Get("default"),
			min:      sf.Tag.Get("min"),
			max:      sf.Tag.Get("max"),
			required: sf.Tag.Get("required") == "true",
			doc:      sf.Tag.Get("doc"),
			index:    i,
			list:     sf.Type.Kind() == reflect.Slice,
			single:   sf.Tag.Get("single") == "true",
			typ:      sf.Type,
		}
		if f.list {
			f.typ = f.typ.Elem()
		}
		if one := sf.Tag.Get("oneof"); one != "" {
			f.allowed = strings.Split(one, "|")
		}
		if f.kind = kind(sf.Tag.Get("type")); f.kind == "" {
			f.kind = kindOf(f.typ)
		}
		fields = append(fields, f)
		if f.kind == kindSecret {
			fields[len(fields)-1].pair = key + "_file"
			fields = append(fields, field{
				key: key + "_file", kind: kindPath, doc: "file with the " + key + ", instead of " + key,
				index: -1, typ: reflect.TypeFor[string](), pair: key,
			})
		}
	}
	return fields
}

func kindOf(t reflect.Type) kind {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return kindDuration
	case t == reflect.TypeFor[Secret]():
		return kindSecret
	case t.Kind() == reflect.Bool:
		return kindBoolean
	case t.Kind() == reflect.Int:
		return kindInteger
	case t.Kind() == reflect.Float64:
		return kindRatio
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer:
		return kindSection
	}
	return kindString
}

// section returns the struct behind a field of kindSection.
func (f field) section() reflect.Type {
	if f.typ.Kind() == reflect.Pointer {
		return f.typ.Elem()
	}
	return f.typ
}

// shape is the form that a value of the field has in a file.
func (f field) shape() form {
	switch {
	case f.list:
		return list
	case f.kind == kindSection:
		return section
	}
	return scalar
}

// Key describes one key, for manuals and completion.
type Key struct {
	Path        string // list positions are empty: listeners[].address
	Environment string // list positions are N: MQTT_AUTH_PROXY_LISTENERS_N_ADDRESS
	Type        string // "duration", "list of string", "list of section" ...
	Default     string // as it is written in YAML; empty for none
	Allowed     string // choices or range; empty for any value of the type
	Doc         string // one line
}

// Keys returns every key that a file may set, in the order of [Config.Render].
// Sections appear through the keys in them, lists of sections also by
// themselves.
func Keys() []Key { return keysOf(nil, reflect.TypeFor[Config](), "") }

func keysOf(keys []Key, section reflect.Type, path string) []Key {
	for _, f := range fieldsOf(section) {
		path := join(path, f.key)
		if f.list || f.kind != kindSection {
			keys = append(keys, f.describe(path))
		}
		if f.kind == kindSection {
			if f.list {
				path += "[]"
			}
			keys = keysOf(keys, f.section(), path)
		}
	}
	return keys
}

func (f field) describe(path string) Key {
	k := Key{Path: path, Environment: variable(path), Type: string(f.kind), Default: f.value, Doc: f.doc}
	bounded := !f.list
	switch {
	case f.single:
		k.Type += " or list of " + k.Type
	case f.list:
		k.Type = "list of " + k.Type
	}
	switch {
	case f.allowed != nil:
		k.Allowed = strings.Join(f.allowed, ", ")
	case bounded && f.min != "" && f.max != "":
		k.Allowed = f.min + " to " + f.max
	case bounded && f.min != "":
		k.Allowed = "at least " + f.min
	}
	return k
}
