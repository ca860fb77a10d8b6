package schema

import (
	"reflect"
	"strings"
	"time"
)

// kind is how a value is read, and what a manual calls its type. It follows from the
// Go type of the struct field, unless the field's type tag names another one.
type kind string

const (
	kindString   kind = "string"
	kindBoolean  kind = "boolean"
	kindInteger  kind = "integer"
	kindDuration kind = "duration"
	kindRatio    kind = "ratio"          // float64, more than 0 and at most 1
	kindSecret   kind = "secret"         // Secret
	kindSection  kind = "section"        // a struct, or a pointer to one
	kindSize     kind = "size"           // by tag: int64, in bytes
	kindText     kind = "text"           // by tag: string of several lines
	kindPath     kind = "path"           // by tag: string
	kindDataDir  kind = "data directory" // by tag: string, the path of the data directory
	kindDataPath kind = "data path"      // by tag: string, a path relative to the data directory
)

// field is one key, as the tags of its struct field describe it.
type field struct {
	key      string
	kind     kind
	list     bool   // a list of values of that kind
	single   bool   // a value that is no list is read as a list of one element
	short    string // of a list of sections: the key that an element has if it is written as its value
	value    string // the default; of a list its YAML
	allowed  []string
	min, max string // bounds of the value, or of the length of a list
	none     bool   // 0 is read as None
	zero     string // the zero tag
	required bool   // the value must not be empty
	doc      string
	index    int // of the struct field; -1 for NAME_file
	typ      reflect.Type
	pair     string // of a secret and its NAME_file: the key of the other one
}

// fieldsOf returns the keys of a section in the order of the struct fields. A secret is
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
			zero:     sf.Tag.Get("zero"),
			required: sf.Tag.Get("required") == "true",
			doc:      sf.Tag.Get("doc"),
			index:    i,
			list:     sf.Type.Kind() == reflect.Slice,
			single:   sf.Tag.Get("single") == "true",
			short:    sf.Tag.Get("short"),
			typ:      sf.Type,
		}
		f.none = f.zero == "none"
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

// section returns the struct type of a field of kindSection.
func (f field) section() reflect.Type {
	if f.typ.Kind() == reflect.Pointer {
		return f.typ.Elem()
	}
	return f.typ
}

// abbreviated reports whether an element of the list f is written as a single value.
func (f field) abbreviated(element *node) bool { return f.short != "" && element.form == scalar }

// shape returns the form that a value of the field has in a file.
func (f field) shape() form {
	switch {
	case f.list:
		return list
	case f.kind == kindSection:
		return section
	}
	return scalar
}
