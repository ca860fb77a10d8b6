package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// decoder fills a Config from nodes. A value at fault is reported and replaced
// by its default, so that one mistake does not hide or cause another.
type decoder struct {
	faults   *faults
	inputs   *inputs
	paths    paths
	origins  origins
	secrets  map[string]string // by path: the file that it was read from
	warnings []Fault
	exposed  bool // everyone may read the config file
}

// section decodes n, which is nil when nothing in it is set.
func (d *decoder) section(v reflect.Value, n *node, path string) {
	fields := fieldsOf(v.Type())
	d.keys(n, fields, path)
	for _, f := range fields {
		at := join(path, f.key)
		switch {
		case f.kind == kindSecret:
			d.secret(v.Field(f.index), f, n, path)
		case f.index >= 0:
			d.field(v.Field(f.index), f, n.get(f.key), at)
		}
	}
}

// keys reports what is wrong with the keys of n, as opposed to their values.
func (d *decoder) keys(n *node, fields []field, path string) {
	if n == nil {
		return
	}
	for i, e := range n.entries {
		at := join(path, e.key)
		switch first := n.find(e.key); {
		case e.fault != "":
			d.faults.add(e.origin, at, e.fault)
		case first < i:
			d.faults.add(e.origin, at, fmt.Sprintf("is set twice, first on line %d; remove one", n.entries[first].origin.line))
		case slices.ContainsFunc(fields, func(f field) bool { return f.key == e.key }):
		case len(d.faults.list) < maxFaults:
			d.faults.add(e.origin, at, "is an unknown key; "+suggestKey(e.key, fields))
			d.faults.misspelled[path] = true
		default:
			d.faults.add(e.origin, at, "is an unknown key")
		}
	}
}

func (d *decoder) field(v reflect.Value, f field, n *node, path string) {
	if n != nil && f.single && n.form == scalar {
		n = &node{form: list, origin: n.origin, items: []*node{n}}
	}
	if n != nil && n.form != f.shape() {
		d.wrongForm(n, f, path)
		n = nil
	}
	switch {
	case n != nil:
		d.origins[path] = n.origin
	case f.value != "":
		n = d.preset(f, path)
	case f.required && !d.faults.around(path) && !d.faults.misspelled[parent(path)]:
		d.faults.add(d.origins.of(path), path, "is missing and has no default; add it")
	}
	switch {
	case f.list && n != nil:
		d.list(v, f, n, path)
	case f.list:
	case f.kind == kindSection && v.Kind() == reflect.Struct:
		d.section(v, n, path)
	case f.kind == kindSection:
		if n != nil {
			v.Set(reflect.New(f.section()))
			d.section(v.Elem(), n, path)
		}
	case n != nil:
		d.scalar(v, f, n, path)
	}
}

// preset returns the default of f as a node.
func (d *decoder) preset(f field, path string) *node {
	if !f.list {
		return &node{form: scalar, text: f.value}
	}
	fault := func(_ origin, _, reason string) { d.faults.add(origin{}, path, reason) }
	return newTreeReader(fromDefault, fault).read([]byte(f.value))
}

func (d *decoder) wrongForm(n *node, f field, path string) {
	switch n.form {
	case null:
		d.faults.add(n.origin, path, "has no value; write one or remove the key")
		return
	case broken:
		d.faults.add(n.origin, path, n.text)
		return
	}
	reason := fmt.Sprintf("is %s and must be %s", n.form, f.shape())
	switch f.shape() {
	case list:
		reason += "; write " + f.key + ": [...] or one line with a dash for each element"
	case section:
		reason += "; write its keys on the lines below, indented"
	default:
		reason += "; put text with special characters in quotes"
	}
	d.faults.add(n.origin, path, reason)
}

func (d *decoder) list(v reflect.Value, f field, n *node, path string) {
	if len(n.items) == 0 && f.min != "" {
		d.faults.add(n.origin, path, "is empty and needs at least "+f.min+" element; add one, or remove the key for the default")
	}
	if len(n.items) == 0 {
		return // nil, so that an empty list is what no list is
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	one := f
	one.list, one.single, one.value, one.min, one.max, one.required = false, false, "", "", "", true
	seen := map[string]bool{}
	for i, item := range n.items {
		path := element(path, i)
		if item.form == scalar && seen[item.text] {
			d.faults.add(item.origin, path, "is in the list twice; remove one")
			continue
		}
		seen[item.text] = item.form == scalar
		d.field(v.Index(i), one, item, path)
	}
}

func (d *decoder) scalar(v reflect.Value, f field, n *node, path string) {
	d.origins[path] = n.origin
	value, err := f.read(n.text)
	if err != nil {
		d.faults.add(n.origin, path, err.Error())
		if n.origin.from == fromDefault || f.value == "" {
			return
		}
		value, _ = f.read(f.value)
	}
	if s, ok := value.(string); ok && s != "" {
		switch f.kind {
		case kindPath:
			value = absolute(d.paths.base(n.origin), s)
			if path == "data" {
				d.paths.data = value.(string)
			}
		case kindDataPath:
			value = absolute(d.paths.data, s)
		}
	}
	if value != nil {
		v.Set(reflect.ValueOf(value).Convert(v.Type()))
	}
}

// read parses a value and holds it against the tags of the field.
func (f field) read(text string) (any, error) {
	if text == "" && f.empties() {
		if f.required {
			return nil, errors.New("is empty; write a value or remove the key")
		}
		return "", nil
	}
	if f.allowed != nil && !slices.ContainsFunc(f.allowed, func(a string) bool { return matches(a, text) }) {
		return nil, fmt.Errorf("%s is not allowed; write one of %s", quote(text), strings.Join(f.allowed, ", "))
	}
	value, err := parse(f.kind, text)
	if err != nil {
		return nil, err
	}
	if n, ok := value.(int64); ok && !f.list && !f.within(n) {
		return nil, fmt.Errorf("%s is out of range; allowed is %s", quote(text), f.describe("").Allowed)
	}
	return value, nil
}

// empties reports whether an empty text is a value of the field's kind: none.
func (f field) empties() bool {
	switch f.kind {
	case kindBoolean, kindInteger, kindDuration, kindSize, kindServer, kindRatio, kindMemory:
		return false
	}
	return true
}

// matches compares a text with a choice. A choice such as user_property:NAME
// stands for every text with that prefix.
func matches(choice, text string) bool {
	if prefix, ok := strings.CutSuffix(choice, ":NAME"); ok {
		name, found := strings.CutPrefix(text, prefix+":")
		return found && name != ""
	}
	return choice == text
}

func (f field) within(n int64) bool {
	bound := func(text string) (int64, bool) {
		b, _ := parse(f.kind, text)
		limit, ok := b.(int64)
		return limit, ok
	}
	if low, ok := bound(f.min); ok && n < low {
		return false
	}
	if high, ok := bound(f.max); ok && n > high {
		return false
	}
	return true
}

// secret decodes a secret that its section n gives by itself or by a file.
func (d *decoder) secret(v reflect.Value, f field, n *node, path string) {
	inline, file := n.get(f.key), n.get(f.pair)
	at, atFile := join(path, f.key), join(path, f.pair)
	if inline != nil && file != nil {
		d.faults.add(file.origin, atFile, "is set together with "+f.key+"; keep one of the two")
		d.faults.at[at] = true
		return
	}
	if file == nil {
		d.field(v, f, inline, at)
		if inline != nil && inline.origin.from == fromFile && d.exposed && v.String() != "" {
			d.warn(inline.origin, at, "stands in a file that everyone on this machine may read; chmod o-r the file, or move the secret to "+f.pair)
		}
		return
	}
	var name string
	d.field(reflect.ValueOf(&name).Elem(), field{key: f.pair, kind: kindPath, required: true}, file, atFile)
	if name == "" {
		return
	}
	d.origins[at], d.secrets[at] = file.origin, name
	text, mode, err := d.inputs.secret(name)
	if err != nil {
		d.faults.add(file.origin, atFile, err.Error())
		d.faults.at[at] = true
		return
	}
	if mode.Perm()&0o004 != 0 {
		d.warn(file.origin, atFile, fmt.Sprintf("%s may be read by everyone on this machine (mode %04o); chmod o-r the file", name, mode.Perm()))
	}
	v.SetString(text)
}

func (d *decoder) warn(at origin, path, reason string) {
	d.warnings = append(d.warnings, at.fault(d.faults.source, path, reason))
}

// paths are the directories that relative paths start at, all absolute. data is
// known from the moment that the first key of the Config is decoded.
type paths struct{ work, file, data string }

func (p paths) base(at origin) string {
	if at.from == fromEnvironment || at.from == fromFlag {
		return p.work
	}
	return p.file
}

func absolute(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}
