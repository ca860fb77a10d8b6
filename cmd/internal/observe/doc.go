// Package observe writes the log and makes the metrics of the program.
//
// [NewLog] makes the log of the process, [New] an [Observer], whose Trace goes into
// proxy.Server:
//
//	stderr := observe.NewOutput(os.Stderr)
//	defer stderr.Close(time.Second)
//	log, err := observe.NewLog(stderr, zap.InfoLevel, "json")
//	o := observe.New(log, version)
//	srv := &proxy.Server{Trace: o.Trace()}
//	o.Export(observe.State{Server: srv.Stats})
//
// A line is written when a session ends and when a connection is refused; the beginning of a
// session is logged at level debug. Nothing that is logged or counted contains a token, a
// password or a payload: tokens appear as fingerprints, and the values of a label are a closed
// set, such as the listeners, the reasons and the servers. The last refusals are kept as well,
// whether they are logged or not: see package refusals.
//
// # Metrics
//
// Every metric is made in this package, in one of two ways:
//
//   - Events are counted when they happen: newMetrics in metrics.go makes the counters and
//     histograms, and a method of Observer or one of its hooks counts.
//   - Current values, and counts that another package keeps, are read at each scrape: a field
//     of [State] returns a snapshot, and the files collect*.go make metrics from it.
//
// To add a metric, add a line to one of them and run
//
//	go test ./cmd/internal/service -run Manual -update
//
// which writes name, type, labels and help into the manual. A series should start at zero when
// the program starts, because otherwise Prometheus misses its first event.
//
// # Bounds
//
// A device can cause most lines, as often as it likes and with text of its choice. Every text
// is therefore truncated, and [Log.SetRate] limits the rate of each kind of line, whether the
// line is written by zap, by slog or by package log: all of them use the same zapcore.Core.
// Lines that are suppressed are counted.
//
// An [Output] ensures that a slow reader of the log does not block the process: it drops and
// counts lines that are not read in time.
package observe
