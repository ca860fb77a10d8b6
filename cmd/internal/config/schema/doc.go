// Package schema loads a configuration from a YAML file, the environment and flags into a
// struct whose tags say which keys there are.
//
//	o := schema.Options[Config]{Prefix: "APP_", Path: "app.yaml", Environ: os.Environ()}
//	c, origins, err := schema.Load(o)
//	if err != nil {
//		return err // an *Error: every fault, one line each
//	}
//
// The package knows no key of any program. The same struct yields the table of a manual
// ([Keys]), the configuration in force with the place of each value ([Origins.Render]), and
// faults as "file:line: key: reason".
//
// # Keys
//
// Each exported field of the struct is a key. The Go type says how its value is read:
//
//	string, bool, int           text, true or false, a whole number
//	float64                     a ratio, more than 0 and at most 1
//	time.Duration               a duration such as 1h30m
//	Secret                      a secret, see below
//	struct, pointer to struct   a section; the pointer is nil unless the section is set
//	slice                       a list of any of these
//
// The tags say the rest:
//
//	yaml      the name of the key; "-" for a field that is none
//	type      the type, where the Go type does not tell: size (int64, in bytes), text (a string
//	          of several lines), path, data directory and data path (strings, see below), or one
//	          of Options.Types
//	default   the default as it is written in a file
//	required  "true": the value must not be empty
//	oneof     the choices, separated by |; prefix:NAME stands for any text with the prefix
//	min, max  the range of a number, duration or size; of a list min is its least length
//	zero      what 0 means where the range includes it: "none", or "default" where libraries
//	          choose a value; a key with "none" holds the value [None] when 0 is written
//	single    "true": a value that is no list is read as a list of one element
//	short     of a list of sections: the key whose value alone may stand for an element
//	doc       one line for the manual
//
// # Where a value comes from
//
// A flag takes precedence over the environment, the environment over the file, and the
// file over the default. The environment sets any key by the prefix and the path of the
// key in capitals, with list positions that count from 0: APP_LISTENERS_0_ADDRESS. A list
// of plain values, or of sections with the tag short, is separated by commas. Position N of a list
// may be one past its end, which extends the list. A hole is a fault. A list that is set anywhere
// replaces the whole default list.
//
// # Strictness
//
// Unknown keys, unknown variables, keys set twice, keys without a value, a second document, merge
// keys (<<), tags (!!int) and values out of range are faults. All are reported at once. A value is
// read from its text: 1.2 and "1.2" are the same, and a version is never rounded to a number.
// Aliases work; their number and the size of the file are bounded. An empty file is the default
// configuration.
//
// Variables that Kubernetes adds to a pod for a Service (APP_SERVICE_HOST, APP_PORT=tcp://...) are
// ignored, because otherwise the program could not start next to a Service with its own name.
//
// # Paths
//
// A relative path starts at the directory of the config file, or at the working directory
// if there is no file or if a flag or the environment sets the path. A data path starts at
// the data directory instead. The struct holds absolute paths.
//
// # Secrets
//
// A key of type [Secret] prints as *** everywhere. It has a companion NAME_file, which names
// a file to read the secret from, with one trailing newline trimmed. Setting both is a
// fault, except that either of them in the environment replaces both of the file's. No
// fault carries the value of a secret or a neighbouring line.
package schema
