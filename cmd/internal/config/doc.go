// Package config turns the config file and the environment into a checked
// [Config].
//
// Only the command reads a Config: it hands plain fields to the components,
// none of which knows that a file exists.
//
//	c, err := config.Load(config.Options{Path: "proxy.yaml", Environ: os.Environ()})
//	if err != nil {
//		return err // an *Error: every fault, one line each
//	}
//
// # Where a value comes from
//
// A flag beats the environment, the environment beats the file, the file beats
// the default. The environment sets any key as MQTT_AUTH_PROXY_ and its path in
// capitals, list positions counted from 0: MQTT_AUTH_PROXY_UPSTREAM_SERVERS,
// MQTT_AUTH_PROXY_LISTENERS_0_TLS_CERTIFICATE. A list of plain values is
// separated by commas. Position N of a list may be one past its end, which
// extends it; a hole is a fault. MQTT_AUTH_PROXY_CONFIG names the config file
// when no flag does.
//
// A list that is set anywhere replaces the default list wholly: the first
// listener in the file or the environment ends both default listeners.
//
// # Strictness
//
// Unknown keys, unknown variables, keys set twice, keys without a value, a
// second document, merge keys (<<), tags (!!int) and values out of range are
// faults. All are reported at once. A value is its text: 1.2 and "1.2" are the
// same, and a version is never rounded to a number on its way. Aliases work
// and are bounded, as is the size of the file. An empty file is the default
// configuration.
//
// The variables that Kubernetes adds to a pod for a Service named
// mqtt-auth-proxy (MQTT_AUTH_PROXY_SERVICE_HOST, MQTT_AUTH_PROXY_PORT=tcp://...)
// are ignored, because the most natural name of the Service must not stop the
// program.
//
// # Relative paths
//
// A relative path starts at the directory of the config file (at the working
// directory where there is no file, or where a flag or the environment gives
// the path); only what the proxy itself writes — token file, admin token,
// telemetry store: the keys of type "data path" — starts at the data directory.
// The Config holds absolute paths.
//
// # Secrets
//
// A key of type [Secret] prints as *** everywhere. Each has a companion
// NAME_file that names a file to read it from instead, one trailing newline
// trimmed; giving both is a fault, except that either form in the environment
// replaces both of the file's. No fault carries the value of a secret, of a
// server address, or a neighbouring line.
//
// # Adding a key
//
// A key is one struct field in config.go: the yaml tag is its name, the Go type
// or the type tag says how it is read (see schema.go), and default, required,
// oneof, min, max and doc are what they say. File, environment, faults, [Keys]
// and [Config.Render] follow from the field. What concerns several keys is in
// check.go.
package config
