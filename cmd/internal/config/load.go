package config

import (
	"cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
)

// These are the parts of a configuration other than its keys.
type (
	Secret = schema.Secret
	Key    = schema.Key
	Fault  = schema.Fault
	Error  = schema.Error
)

// prefix begins the name of every variable of the program.
const prefix = "MQTT_AUTH_PROXY_"

// Options say where a configuration comes from. The zero value means the embedded default in
// the working directory, without the environment.
type Options struct {
	// Path is the config file. Empty means the file that MQTT_AUTH_PROXY_CONFIG names, or
	// none.
	Path string
	// Environ is the environment as of [os.Environ].
	Environ []string
	// WorkDir is the working directory. Empty means that of the process.
	WorkDir string
	// DataDir is the value of the --data flag. Empty means that the flag was not given.
	DataDir string
	// Whole makes a file without any key a fault, see [schema.Options].
	Whole bool
	// Check checks what this package cannot check, such as templates. It reports faults through
	// fault, whose key is a path such as upstream.username. A key that already has a fault has
	// its default or is empty; faults of such keys, and of sections that contain them, are not
	// reported again. [schema.Origins.Hash] covers only the Config, and nothing else that Check
	// reads. Nil means no further checks.
	Check func(c *Config, fault func(key, reason string))
}

// Load reads, merges and checks a configuration. Its error is an [*Error] with every
// fault, except where the working directory itself cannot be found.
func Load(o Options) (*Config, error) {
	c, origins, err := schema.Load(schema.Options[Config]{
		Prefix:  prefix,
		Types:   types(),
		Example: "data: /var/lib/mqtt-auth-proxy",
		Path:    o.Path,
		Environ: o.Environ,
		Flags:   []schema.Flag{{Name: "--data", Key: "data", Value: o.DataDir}},
		WorkDir: o.WorkDir,
		Whole:   o.Whole,
		Check: func(c *Config, r *schema.Report) {
			(&checker{c, r}).all()
			for i := range c.Listeners {
				l := &c.Listeners[i]
				l.Name = cmp.Or(l.Name, l.Address)
			}
			if o.Check != nil {
				o.Check(c, func(key, reason string) {
					if !r.FaultyWithin(key) {
						r.Fault(key, reason)
					}
				})
			}
		},
	})
	if err != nil {
		return nil, err
	}
	c.Origins = *origins
	return c, nil
}

// Keys returns every key that a file may set, in the order of [Config.Render].
func Keys() []Key { return schema.Keys[Config](prefix) }

// Render returns the effective configuration as YAML, see [schema.Origins.Render].
func (c *Config) Render() ([]byte, error) { return c.Origins.Render(c) }

// RenderChanged returns what differs from the defaults, see [schema.Origins.RenderChanged].
func (c *Config) RenderChanged() ([]byte, error) { return c.Origins.RenderChanged(c) }

// Fingerprint identifies the values of the configuration, see [schema.Origins.Fingerprint].
func (c *Config) Fingerprint() (string, error) { return c.Origins.Fingerprint(c) }
