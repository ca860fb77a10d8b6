//go:build integration

package postgres

import (
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/telemetrytest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestConformance: this store and the one of SQLite give the same answers.
func TestConformance(t *testing.T) {
	server := harness.StartPostgres(t, "fsync=off")
	var databases atomic.Int64
	telemetrytest.Run(t, telemetrytest.Suite{New: func(t *testing.T, with telemetrytest.Options) telemetrytest.Fixture {
		start := time.Now()
		var ahead atomic.Int64
		o := Options{
			DSNFile: dsnFile(t, server.Database(fmt.Sprintf("d%d", databases.Add(1)))), Retention: with.Retention, MaxBytes: with.MaxBytes,
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
			Usage: func() (counted, stored map[string]int64) {
				harness.Eventually(t, "flush of the bytes that are stored", func() bool {
					counted = bytesOf(t, s, `SELECT account, bytes FROM mqtt_auth_proxy.usage`)
					stored = bytesOf(t, s, `SELECT device, octet_length(data) + 64 FROM mqtt_auth_proxy.telemetry
						UNION ALL SELECT device, octet_length(key) + octet_length(value) + 64 FROM mqtt_auth_proxy.attributes`)
					return maps.Equal(counted, stored)
				})
				return counted, stored
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

// bytesOf returns what a query finds for accounts, without those that have nothing.
func bytesOf(t *testing.T, s *Store, query string) map[string]int64 {
	t.Helper()
	rows, err := s.readers.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	var (
		device string
		bytes  int64
	)
	all := make(map[string]int64)
	if _, err := pgx.ForEachRow(rows, []any{&device, &bytes}, func() error {
		all[telemetry.AccountOf(device)] += bytes
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(_ string, bytes int64) bool { return bytes == 0 })
	return all
}

// waits returns how many keys are not yet in the table latest.
func waits(s *Store) (n int) {
	for _, w := range s.workers {
		n += w.recent.Len()
	}
	return n
}
