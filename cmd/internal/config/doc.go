// Package config defines the keys of the configuration and the checks that concern several of
// them. It turns the config file and the environment into a checked [Config].
//
//	c, err := config.Load(config.Options{Path: "proxy.yaml", Environ: os.Environ()})
//	if err != nil {
//		return err // an *Error: every fault, one line each
//	}
//
// Package schema reads files, variables and secrets; its comment describes the form of values
// and their precedence. Variables begin with MQTT_AUTH_PROXY_. MQTT_AUTH_PROXY_CONFIG names the
// config file if no flag does.
//
// Only the command reads a Config. It passes plain fields to the components, which know nothing
// of a config file. For a component 0 means its default, while for an operator it means none. A
// key with the tag zero:"none" therefore has the value [schema.None] if 0 is written, which
// means none to every component.
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
//     while the proxy runs, add it to needsRestart there and to the manual's list of such keys.
//  5. Set the key in testdata/full.yaml. The tests name the expectations that lack it, and
//     "go test ./cmd/mqtt-auth-proxy -run Manual -update" adds it to the manual.
package config
