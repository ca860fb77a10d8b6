// Package observe turns what the proxy's hooks tell into log lines and metrics.
//
// [NewLogger] makes the process's logger, [New] an [Observer] whose Trace goes
// into proxy.Server:
//
//	log, err := observe.NewLogger(os.Stderr, zap.InfoLevel, "json")
//	o := observe.New(log, registry)
//	srv := &proxy.Server{Trace: o.Trace()}
//
// One line is written when a session ends and one when a connection is refused;
// the beginning of a session is a line at level debug. Lines about refusals are
// limited, so that whoever causes them cannot fill a disk. Nothing that is logged or
// counted holds a token, a password or a payload: tokens appear as fingerprints,
// and labels of metrics are closed sets (listener, reason, cause, direction,
// server).
package observe
