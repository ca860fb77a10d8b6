// Package observe turns what the proxy's hooks tell into log lines and metrics.
//
// [NewLog] makes the log of the process, [New] an [Observer] whose Trace goes into
// proxy.Server:
//
//	stderr := observe.NewOutput(os.Stderr)
//	defer stderr.Close(time.Second)
//	log, err := observe.NewLog(stderr, zap.InfoLevel, "json")
//	o := observe.New(log, registry)
//	srv := &proxy.Server{Trace: o.Trace()}
//
// One line is written when a session ends and one when a connection is refused;
// the beginning of a session is a line at level debug. Nothing that is logged or
// counted holds a token, a password or a payload: tokens appear as fingerprints,
// and labels of metrics are closed sets (listener, reason, cause, direction,
// server).
//
// # What devices and readers cannot do
//
// Most lines can be caused by a device, as often as it likes and with texts of its
// own in them. So every text is cut and every kind of line has a pace, which
// [Log.Pace] sets, whether it is written by zap, by slog or by package log: all of
// them end in the same zapcore.Core. What is left out is counted.
//
// An [Output] keeps whoever reads the log from holding up the process: it drops and
// counts what its reader does not take.
package observe
