// Package observe makes the log lines and the metrics of the program.
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
// A line is written when a session ends and when a connection is refused; the beginning
// of a session is a line at level debug. Nothing that is logged or counted holds a token,
// a password or a payload: tokens appear as fingerprints, and the values of a label are a
// closed set, such as the listeners, the reasons and the servers.
//
// # Metrics
//
// Every metric is made in this package, in one of two ways:
//
//   - What happens is counted as it happens: newMetrics in metrics.go makes the counters
//     and histograms, and a method of Observer or one of its hooks counts.
//   - What is so at the moment, or is counted elsewhere, is read at each scrape: a field of
//     [State] returns a snapshot, and the files collect*.go make metrics of it.
//
// To add a metric, add a line to one of them and run
//
//	go test ./cmd/internal/service -run Manual -update
//
// which writes name, type, labels and help into the manual. A series should begin at zero
// when the program starts, because Prometheus misses the first event of one that does not.
//
// # Bounds
//
// Most lines can be caused by a device, as often as it likes and with text of its own in
// them. So every text is cut off and every kind of line has a rate, which [Log.SetRate] sets,
// whether the line is written by zap, by slog or by package log: all of them end in the
// same zapcore.Core. The lines that are left out are counted.
//
// An [Output] keeps the reader of the log from holding up the process: it drops and counts
// what its reader does not take.
package observe
