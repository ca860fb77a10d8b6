//go:build integration

package postgres

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/telemetrytest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestConformance: this store and the one of SQLite give the same answers.
func TestConformance(t *testing.T) {
	server := harness.StartPostgres(t, "fsync=off")
	var databases atomic.Int64
	telemetrytest.Run(t, telemetrytest.Suite{New: func(t *testing.T, retention time.Duration) telemetrytest.Fixture {
		start := time.Now()
		var ahead atomic.Int64
		o := Options{
			DSNFile: dsnFile(t, server.Database(fmt.Sprintf("d%d", databases.Add(1)))), Retention: retention,
			Now: func() time.Time { return start.Add(time.Duration(ahead.Load())) },
		}
		s := open(t, o)
		return telemetrytest.Fixture{
			Store: s, Now: o.Now,
			Advance: func(d time.Duration) {
				ahead.Add(int64(d))
				harness.Eventually(t, "flush", func() bool { return waits(s) == 0 })
				if err := s.round(t.Context()); err != nil {
					t.Error(err)
				}
			},
			Reopen: func() telemetry.Store {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				s = open(t, o)
				return s
			},
		}
	}})
}

// waits returns how many keys are not yet in the table latest.
func waits(s *Store) (n int) {
	for _, w := range s.workers {
		n += w.recent.Len()
	}
	return n
}
