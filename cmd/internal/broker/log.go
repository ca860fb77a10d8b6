package broker

import (
	"context"
	"log/slog"
)

// discreetHandler passes on what mochi logs, at debug level, because this package logs or
// counts everything that an operator has to act on. It keeps only attributes that are known to
// be harmless: mochi logs whole packets, with credentials and payloads, and client
// identifiers, which can be tokens.
type discreetHandler struct{ slog.Handler }

func (h discreetHandler) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

func (h discreetHandler) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, slog.LevelDebug, "mochi: "+r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if harmless(a.Key) {
			clean.AddAttrs(a)
		}
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

func (h discreetHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var kept []slog.Attr
	for _, a := range attrs {
		if harmless(a.Key) {
			kept = append(kept, a)
		}
	}
	return discreetHandler{h.Handler.WithAttrs(kept)}
}

func (h discreetHandler) WithGroup(name string) slog.Handler {
	return discreetHandler{h.Handler.WithGroup(name)}
}

// harmless reports whether an attribute may be logged. remote is the device's name, see
// conn.RemoteAddr.
func harmless(key string) bool {
	switch key {
	case "error", "hook", "keepalive", "recommended", "remote", "old_remote", "new_remote", "version":
		return true
	}
	return false
}
