package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
)

// Options say where a configuration comes from. The zero value is the embedded
// default in the working directory, whatever the environment says.
type Options struct {
	// Path is the config file; empty means the one that MQTT_AUTH_PROXY_CONFIG
	// names, or none.
	Path string
	// Environ is the environment as of [os.Environ].
	Environ []string
	// WorkDir is the working directory; empty means the process's own.
	WorkDir string
	// DataDir is the value of the --data flag; empty means not given.
	DataDir string
	// Whole makes a file without a single key a fault. To whoever starts the
	// program such a file says "the defaults"; to a running one it is what a write
	// that failed leaves behind.
	Whole bool
	// Check looks at what this package cannot judge, such as templates, and
	// reports through fault, whose key is a path such as upstream.username.
	// Keys already at fault hold their defaults or are empty and are not
	// reported again. Nil means no further checks. What it depends on beside
	// the Config is not in [Config.Hash].
	Check func(c *Config, fault func(key, reason string))
}

// Load reads, merges and checks a configuration. Its error is an [*Error] with
// every fault, except where the working directory itself cannot be found.
func Load(o Options) (*Config, error) {
	work, err := filepath.Abs(o.WorkDir)
	if err != nil {
		return nil, fmt.Errorf("find the working directory: %w", err)
	}
	_, values := environment(o.Environ)
	source := cmp.Or(o.Path, values[variableConfig])
	faults := newFaults(printable(source))
	d := &decoder{
		faults:  faults,
		inputs:  newInputs(),
		paths:   paths{work: work, file: work},
		origins: origins{},
		secrets: map[string]string{},
	}
	d.hashSettings(o)
	c := &Config{source: faults.source, origins: d.origins, secretFiles: d.secrets}
	if root := d.file(source, o.Whole); root != nil {
		overlay(root, o.Environ, faults)
		if o.DataDir != "" {
			root.set("data", &node{form: scalar, text: o.DataDir, origin: origin{from: fromFlag, variable: "--data"}})
		}
		d.section(reflect.ValueOf(c).Elem(), root, "")
		c.check(faults, o.Check)
	}
	c.Hash, c.Files, c.Warnings = d.inputs.hash(), d.inputs.files, d.warnings
	if len(faults.list) > 0 {
		return nil, &Error{Faults: sortFaults(faults.list), Hash: c.Hash}
	}
	return c, nil
}

// hashSettings hashes what does not come from files.
func (d *decoder) hashSettings(o Options) {
	names, values := environment(o.Environ)
	for _, name := range names {
		d.inputs.add("environment", name, values[name])
	}
	d.inputs.add("flag", o.DataDir)
}

// file reads the config file. It returns nil when there is nothing to go on
// with. An empty file will not do if it has to be whole.
func (d *decoder) file(path string, whole bool) *node {
	if path == "" {
		return &node{form: section}
	}
	path = absolute(d.paths.work, path)
	d.paths.file = filepath.Dir(path)
	data, mode, err := d.inputs.read(path, maxFile)
	if err != nil {
		d.faults.add(origin{from: fromFile}, "", err.Error())
		return nil
	}
	d.exposed = mode.Perm()&0o004 != 0
	root := newTreeReader(fromFile, d.faults.add).read(data)
	switch {
	case whole && root != nil && root.form == section && len(root.entries) == 0:
		d.faults.add(origin{from: fromFile}, "", "the file says nothing, which a running program does not take for the defaults; write at least one key, or restart")
		return nil
	case root == nil || root.form == section:
		return root
	case root.form == broken:
		d.faults.add(root.origin, "", root.text)
	default:
		d.faults.add(root.origin, "", fmt.Sprintf("the file is %s and must be a section; write lines such as data: /var/lib/mqtt-auth-proxy", root.form))
	}
	return nil
}

// check runs the checks of this package and of the caller.
func (c *Config) check(faults *faults, caller func(*Config, func(key, reason string))) {
	checks := &checker{Config: c, faults: faults}
	checks.all()
	for i := range c.Listeners {
		l := &c.Listeners[i]
		l.Name = cmp.Or(l.Name, l.Address)
	}
	if caller != nil {
		caller(c, checks.fault)
	}
}
