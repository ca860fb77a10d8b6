// Package service is the running program: it makes every part that a configuration
// names, serves, takes up changes and ends in order.
//
//	s, err := service.New(ctx, cfg, service.Process{Log: log, Level: level, Config: options})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	return s.Run(signals, os.Stdout)
//
// A [Service] lasts as long as the process. What one configuration decides about is a
// generation: its listeners, token sources, brokers and policy. A reload prepares a new
// generation next to the one in force, which is the half that can fail, and then installs
// it, which cannot. This package is the only place that turns a configuration into parts.
package service
