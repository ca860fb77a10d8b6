package broker

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
)

// TestSweepGoesOnAfterAPanic: otherwise expired sessions and messages would accumulate, and the
// process would end.
func TestSweepGoesOnAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		b := &Broker{options: Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}} // without mochi
		ctx, cancel := context.WithTimeout(t.Context(), 3*max(sessionSweep, messageSweep))
		defer cancel()
		b.keepSweeping(ctx)
		if ctx.Err() == nil {
			t.Error("the sweep has ended before its context")
		}
		n := int(b.counts.panics.Load())
		if n < 2 || strings.Count(log.String(), "panic in the bundled broker") != n || !strings.Contains(log.String(), "expire") {
			t.Errorf("%d panics, logged as %s", n, log.String())
		}
	})
}

// TestPanicReleasesTheSessions: a lock that is never released would stop all devices.
func TestPanicReleasesTheSessions(t *testing.T) {
	b := &Broker{options: Options{Logger: slog.New(slog.DiscardHandler)}}
	func() {
		defer b.recoverPanic("pump")
		b.withSessions(func() { panic("bug") })
	}()
	if !b.sessions.TryLock() {
		t.Error("the sessions are still locked")
	}
}
