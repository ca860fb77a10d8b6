// Package service is the running program: it makes every part that a configuration names,
// serves, reloads what changes, and ends in order.
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
// A [Service] lasts as long as the process. What one configuration decides about is a
// generation: its listeners, token sources, brokers and policy. A reload has three steps:
//
//   - [Load] reads the configuration, checks it, and parses once everything in it that has a
//     language of its own. The result is a [Plan].
//   - prepare opens the parts of the next generation next to those in force and takes over
//     those that have not changed. It can fail, and then nothing has changed.
//   - install puts the generation into force and ends what only the one before had. It
//     cannot fail.
//
// The start does the same from an empty generation, and makes what lasts as long as the
// process. This package is the only place that turns a configuration into parts.
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
// A source that is asked over a network is put behind a cache by cached, which also shares
// a question among all devices that ask the same, refuses tokens of the wrong form, and has
// metrics. What else a source can do is found by the optional interfaces in source.go.
package service
