package schema

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
)

// Options configure how a T is written and where its values come from.
type Options[T any] struct {
	// Prefix begins the name of every variable of the program, such as "APP_". A
	// variable named by the prefix and CONFIG names the config file.
	Prefix string
	// Types are further types that type tags may name.
	Types map[string]Type
	// Example is a line of a config file, which some faults show.
	Example string
	// Check checks rules about several keys. A key at fault has its default or is empty. Nil means
	// no further checks.
	Check func(v *T, r *Report)

	// Path is the config file. Empty means the file that the environment names, or none.
	Path string
	// Environ is the environment, in the form of [os.Environ].
	Environ []string
	// Flags take precedence over the environment.
	Flags []Flag
	// WorkDir is the working directory. Empty means that of the process.
	WorkDir string
	// Whole makes a file without any key a fault. At the start of a program such a file means the
	// defaults. In a running program it is more likely what a failed write has left.
	Whole bool
}

// A Flag of the command line sets a key at the top level.
type Flag struct {
	Name  string // such as --data
	Key   string
	Value string // empty means that the flag was not given
}

// Load reads, merges and checks a configuration. Its error is an [*Error] with every
// fault, except where the working directory itself cannot be found.
func Load[T any](o Options[T]) (*T, *Origins, error) {
	work, err := filepath.Abs(o.WorkDir)
	if err != nil {
		return nil, nil, fmt.Errorf("find the working directory: %w", err)
	}
	vars := environment(o.Prefix, o.Environ)
	source := cmp.Or(o.Path, vars[o.Prefix+configVariable])
	origins := &Origins{prefix: o.Prefix, source: printable(source), at: map[string]origin{}, paths: map[string]string{}}
	report := &Report{origins: origins, at: map[string]bool{}, misspelled: map[string]bool{}}
	d := &decoder{
		root: reflect.TypeFor[T](), types: o.Types, origins: origins, report: report,
		inputs: newInputs(), work: work, file: work,
	}
	d.hashSettings(vars, o.Flags)
	v := new(T)
	if root := d.read(source, o.Whole, o.Example); root != nil {
		d.overlay(root, vars)
		setFlags(root, o.Flags)
		d.document(reflect.ValueOf(v).Elem(), root)
		if o.Check != nil {
			o.Check(v, report)
		}
	}
	origins.Hash, origins.Files = d.inputs.hash(), d.inputs.files
	if len(report.faults) > 0 {
		return nil, nil, &Error{Faults: sortFaults(report.faults), Hash: origins.Hash}
	}
	return v, origins, nil
}

// hashSettings hashes what does not come from files.
func (d *decoder) hashSettings(vars map[string]string, flags []Flag) {
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		d.inputs.add("environment", name, vars[name])
	}
	for _, f := range flags {
		d.inputs.add("flag", f.Name, f.Value)
	}
}

func setFlags(root *node, flags []Flag) {
	for _, f := range flags {
		if f.Value != "" {
			root.set(f.Key, &node{form: scalar, text: f.Value, origin: origin{from: fromFlag, variable: f.Name}})
		}
	}
}

// read reads the config file. It returns nil after a fault that leaves nothing to decode.
func (d *decoder) read(path string, whole bool, example string) *node {
	if path == "" {
		return &node{form: section}
	}
	path = absolute(d.work, path)
	d.file = filepath.Dir(path)
	data, mode, err := d.inputs.read(path, maxFile)
	if err != nil {
		d.report.add(origin{from: fromFile}, "", err.Error())
		return nil
	}
	d.exposed = mode.Perm()&0o004 != 0
	root := newTreeReader(fromFile, d.report.add).read(data)
	switch {
	case whole && root != nil && root.form == section && len(root.entries) == 0:
		d.report.add(origin{from: fromFile}, "", "the file has no keys, which a running program does not take for the defaults; write at least one key, or restart")
		return nil
	case root == nil || root.form == section:
		return root
	case root.form == broken:
		d.report.add(root.origin, "", root.text)
	default:
		d.report.add(root.origin, "", fmt.Sprintf("the file is %s and must be a section; write lines such as %s", root.form, example))
	}
	return nil
}
