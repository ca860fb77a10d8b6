package config

import (
	"cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
)

// What a configuration consists of, apart from its keys.
type (
	Secret = schema.Secret
	Key    = schema.Key
	Fault  = schema.Fault
	Error  = schema.Error
)

// prefix begins the name of every variable of the program.
const prefix = "MQTT_AUTH_PROXY_"

// Options say where a configuration comes from. The zero value is the embedded default in
// the working directory, whatever the environment says.
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
	// Whole makes a file without a single key a fault, see [schema.Options].
	Whole bool
	// Check looks at what this package cannot judge, such as templates, and reports
	// through fault, whose key is a path such as upstream.username. Keys already at
	// fault hold their defaults or are empty, and are not reported again, nor are
	// sections with a key at fault. What the
	// check depends on besides the Config is not in [schema.Origins.Hash]. Nil means no
	// further checks.
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

// Fingerprint names what the configuration says, see [schema.Origins.Fingerprint].
func (c *Config) Fingerprint() (string, error) { return c.Origins.Fingerprint(c) }
