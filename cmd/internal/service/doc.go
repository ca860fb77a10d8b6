// Package service is the running program: it creates every part that a configuration names,
// serves devices, reloads changes, and shuts down in order.
//
//	plan, err := service.Load(options, version)
//	if err != nil {
//		return err
//	}
//	s, err := service.New(ctx, plan, service.Process{Log: log, Level: level, Config: options, Version: version})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	return s.Run(signals, os.Stdout)
//
// # Generations
//
// A [Service] lasts as long as the process. The parts that depend on the configuration form a
// generation: listeners, token sources, brokers and policy. A reload has three steps:
//
//   - [Load] reads and checks the configuration, and parses the templates, addresses and rules
//     in it. The result is a [Plan].
//   - prepare opens the parts of the next generation while the current one stays in force, and
//     takes over the parts that have not changed. If it fails, nothing has changed.
//   - install puts the generation into force and ends the parts that only the previous one had.
//     It cannot fail.
//
// The start does the same from an empty generation, and also creates the parts that last as
// long as the process. Only this package creates parts from a configuration.
//
// # Adding a kind of token source
//
// A new kind of source is a package below authz that implements [authz.Authorizer], and then
//
//   - a section in [config.Source], see "Adding a key" in the config package,
//   - a constructor in a file source_KIND.go that returns a source, and its case in
//     newSource,
//   - if it has metrics of its own, a method of [observe.SourceMetrics].
//
// The function cached puts a source that is asked over a network behind a cache, which also
// combines equal questions, refuses tokens of the wrong form, and has metrics. Further
// abilities of a source are optional interfaces in source.go.
package service
