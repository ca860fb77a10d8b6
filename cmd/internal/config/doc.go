// Package config holds the keys of the configuration and what concerns several of them. It
// turns the config file and the environment into a checked [Config].
//
//	c, err := config.Load(config.Options{Path: "proxy.yaml", Environ: os.Environ()})
//	if err != nil {
//		return err // an *Error: every fault, one line each
//	}
//
// How files, variables and secrets are read is the business of package schema, whose
// comment says what a value may look like and which value takes precedence. Variables begin
// with MQTT_AUTH_PROXY_, and MQTT_AUTH_PROXY_CONFIG names the config file when no flag does.
//
// Only the command reads a Config. It hands plain fields to the components, none of which
// knows that a file exists. They take 0 for their default, while an operator writes 0 for
// none. A key whose tag says zero:"none" therefore holds [schema.None] when 0 is written,
// which every component takes for none.
//
// # Adding a key
//
//  1. Add a field to config.go. The yaml tag is its name; the Go type or the type tag says
//     how it is read, and default, required, oneof, min, max, zero and doc say the rest, see
//     package schema. If 0 is allowed, the zero tag has to say what it means. File,
//     environment, faults, [Keys] and [Config.Render] follow from the field.
//  2. If values of the key have a form of their own, add a type to types.go.
//  3. If the key depends on others, add that to check.go.
//  4. Hand the field to the component that needs it, in package service. If it cannot change
//     while the proxy runs, add it to needsRestart there.
//  5. Set the key in testdata/full.yaml. The tests name the expectations that lack it, and
//     "go test ./cmd/mqtt-auth-proxy -run Manual -update" adds it to the manual.
package config
