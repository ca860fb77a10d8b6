package schema

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
)

// decoder fills a configuration from nodes. A value at fault is reported and replaced by
// its default, so that one mistake does not hide or cause another.
type decoder struct {
	root    reflect.Type
	types   types
	origins *Origins
	report  *Report
	inputs  *inputs

	work, file, data string   // directories that relative paths start at, all absolute
	later            []func() // completes the paths in the data directory, once it is known
	exposed          bool     // every user of the machine may read the config file
}

// document decodes the whole configuration.
func (d *decoder) document(v reflect.Value, root *node) {
	d.section(v, root, "")
	for _, complete := range d.later {
		complete()
	}
}

// section decodes n, which is nil when nothing in the section is set.
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
			d.report.add(e.origin, at, e.fault)
		case first < i:
			d.report.add(e.origin, at, fmt.Sprintf("is set twice, first on line %d; remove one", n.entries[first].origin.line))
		case slices.ContainsFunc(fields, func(f field) bool { return f.key == e.key }):
		case len(d.report.faults) < maxFaults:
			d.report.add(e.origin, at, "is an unknown key; "+d.suggestKey(e.key, fields))
			d.report.misspelled[path] = true
		default:
			d.report.add(e.origin, at, "is an unknown key")
		}
	}
}

func (d *decoder) field(v reflect.Value, f field, n *node, path string) {
	if n != nil && f.single && n.form == scalar {
		n = &node{form: list, origin: n.origin, items: []*node{n}}
	}
	if n != nil && f.abbreviated(n) {
		d.abbreviated(v, f, n, path)
		return
	}
	if n != nil && n.form != f.shape() {
		d.wrongForm(n, f, path)
		n = nil
	}
	switch {
	case n != nil:
		d.origins.at[path] = n.origin
	case f.value != "":
		n = d.preset(f, path)
	case f.required && !d.report.Faulty(path) && !d.report.misspelled[parent(path)]:
		d.report.add(d.origins.of(path), path, "is missing and has no default; add it")
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

// abbreviated decodes a section that is written as the value of one of its keys. The path of that
// key is the section's own, so that no fault names a key that the file does not have.
func (d *decoder) abbreviated(v reflect.Value, f field, n *node, path string) {
	for _, one := range fieldsOf(f.section()) {
		if one.key == f.short {
			d.field(v.Field(one.index), one, n, path)
			d.origins.at[join(path, one.key)] = n.origin
			continue
		}
		d.field(v.Field(one.index), one, nil, join(path, one.key))
	}
}

// preset returns the default of f as a node.
func (d *decoder) preset(f field, path string) *node {
	if !f.list {
		return &node{form: scalar, text: f.value}
	}
	fault := func(_ origin, _, reason string) { d.report.add(origin{}, path, reason) }
	return newTreeReader(fromDefault, fault).read([]byte(f.value))
}

func (d *decoder) wrongForm(n *node, f field, path string) {
	switch n.form {
	case null:
		d.report.add(n.origin, path, "has no value; write one or remove the key")
		return
	case broken:
		d.report.add(n.origin, path, n.text)
		return
	}
	reason := fmt.Sprintf("is %s and must be %s", n.form, f.shape())
	switch {
	case f.short != "" && !f.list:
		reason = fmt.Sprintf("is %s and must be %s or %s; put text with special characters in quotes", n.form, scalar, section)
	case f.list:
		reason += "; write " + f.key + ": [...] or one line with a dash for each element"
	case f.kind == kindSection:
		reason += "; write its keys on the lines below, indented"
	default:
		reason += "; put text with special characters in quotes"
	}
	d.report.add(n.origin, path, reason)
}

func (d *decoder) list(v reflect.Value, f field, n *node, path string) {
	if len(n.items) == 0 && f.min != "" {
		d.report.add(n.origin, path, "is empty and needs at least "+f.min+" element; add one, or remove the key for the default")
	}
	if len(n.items) == 0 {
		return // the value stays nil, like that of a list that is not set
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	one := f
	one.list, one.single, one.value, one.min, one.max, one.required = false, false, "", "", "", true
	seen := map[string]bool{}
	for i, item := range n.items {
		path := Element(path, i)
		if item.form == scalar && seen[item.text] {
			d.report.add(item.origin, path, "is in the list twice; remove one")
			continue
		}
		seen[item.text] = item.form == scalar
		d.field(v.Index(i), one, item, path)
	}
}

func (d *decoder) scalar(v reflect.Value, f field, n *node, path string) {
	d.origins.at[path] = n.origin
	value, err := d.types.read(f, n.text)
	if err != nil {
		d.report.add(n.origin, path, err.Error())
		if n.origin.from == fromDefault || f.value == "" {
			return
		}
		value, _ = d.types.read(f, f.value)
	}
	if value == nil {
		return
	}
	v.Set(reflect.ValueOf(value).Convert(v.Type()))
	base := d.file
	if n.origin.from == fromEnvironment || n.origin.from == fromFlag {
		base = d.work
	}
	switch {
	case v.Kind() != reflect.String || v.String() == "":
	case f.kind == kindPath:
		d.complete(v, base, path)
	case f.kind == kindDataDir:
		d.complete(v, base, path)
		d.data = v.String()
	case f.kind == kindDataPath:
		d.later = append(d.later, func() { d.complete(v, d.data, path) })
	}
}

// complete makes the value of a path absolute.
func (d *decoder) complete(v reflect.Value, base, path string) {
	v.SetString(absolute(base, v.String()))
	d.origins.paths[path] = v.String()
}

func absolute(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

// secret decodes a secret, which its section n sets by itself or by a file.
func (d *decoder) secret(v reflect.Value, f field, n *node, path string) {
	inline, file := n.get(f.key), n.get(f.pair)
	at, atFile := join(path, f.key), join(path, f.pair)
	if inline != nil && file != nil {
		d.report.add(file.origin, atFile, "is set together with "+f.key+"; keep one of the two")
		d.report.at[at] = true
		return
	}
	if file == nil {
		d.field(v, f, inline, at)
		if inline != nil && inline.origin.from == fromFile && d.exposed && v.String() != "" {
			d.warn(inline.origin, at, "is in a file that everyone on this machine may read; chmod o-r the file, or move the secret to "+f.pair)
		}
		return
	}
	name := reflect.New(reflect.TypeFor[string]()).Elem()
	d.field(name, field{key: f.pair, kind: kindPath, required: true, typ: name.Type()}, file, atFile)
	if name.String() == "" {
		return
	}
	d.origins.at[at] = file.origin
	text, mode, err := d.inputs.secret(name.String())
	if err != nil {
		d.report.add(file.origin, atFile, err.Error())
		d.report.at[at] = true
		return
	}
	if mode.Perm()&0o004 != 0 {
		d.warn(file.origin, atFile, fmt.Sprintf("%s may be read by everyone on this machine (mode %04o); chmod o-r the file", name, mode.Perm()))
	}
	v.SetString(text)
}

func (d *decoder) warn(at origin, path, reason string) {
	d.origins.Warnings = append(d.origins.Warnings, d.origins.fault(at, path, reason))
}
