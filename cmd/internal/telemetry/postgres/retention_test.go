//go:build integration

package postgres

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestRetentionDropsPartitions: old messages are dropped with their partition, and those outside
// all partitions are deleted.
func TestRetentionDropsPartitions(t *testing.T) {
	const hour, retention = int64(time.Hour / time.Millisecond), 48 * time.Hour
	server := harness.StartPostgres(t)
	start := time.Date(2026, 5, 1, 0, 30, 0, 0, time.UTC)
	var ahead atomic.Int64
	s := open(t, Options{
		DSNFile: dsnFile(t, server.Database("d")), Retention: retention,
		Now: func() time.Time { return start.Add(time.Duration(ahead.Load())) },
	})
	tables := func() string {
		return server.SQL("d", `SELECT string_agg(c.relname || ':' || (xpath('/row/n/text()',
				query_to_xml('SELECT count(*) AS n FROM mqtt_auth_proxy.' || c.relname, false, true, '')))[1]::text, ' ' ORDER BY c.relname)
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'mqtt_auth_proxy.telemetry'::regclass`)
	}
	check := func(what, want string) {
		t.Helper()
		if got := tables(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	store := func(ts int64) {
		t.Helper()
		if err := s.Append(t.Context(), "d", number(ts, 1)); err != nil {
			t.Error(err)
		}
	}
	round := func(d time.Duration) {
		t.Helper()
		ahead.Add(int64(d))
		if err := s.round(t.Context()); err != nil {
			t.Error(err)
		}
	}
	round(0)
	now := start.UnixMilli()
	for _, ts := range []int64{now, now + 1, now - 5*hour, now + 20*hour, 1, now - 1000*hour, now + 1000*hour} {
		store(ts)
	}
	check("stored", "telemetry_20260430_190000:1 telemetry_20260501_000000:2 telemetry_20260501_010000:0 telemetry_20260501_200000:1 telemetry_default:3")
	round(44 * time.Hour)
	check("the oldest partition and all outside of partitions are gone",
		"telemetry_20260501_000000:2 telemetry_20260501_010000:0 telemetry_20260501_200000:1 telemetry_20260502_200000:0 telemetry_20260502_210000:0 telemetry_default:0")
	round(100 * time.Hour)
	check("all is gone", "telemetry_20260507_000000:0 telemetry_20260507_010000:0 telemetry_default:0")
}

// TestDefaultPartitionGivesRowsBack: rows that came while their partition could not be made are
// moved to it once it can, and those that are kept survive what is deleted around them.
func TestDefaultPartitionGivesRowsBack(t *testing.T) {
	server := harness.StartPostgres(t)
	s := open(t, Options{DSNFile: dsnFile(t, server.Database("d")), Retention: 48 * time.Hour})
	now := time.Now().Add(-24 * time.Hour).UnixMilli()
	s.partitions.postpone()
	for _, ts := range []int64{now, now + 1, 1, 2} {
		if err := s.Append(t.Context(), "d", number(ts, 1)); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, "a turn", func() bool { return s.emptyDefault(t.Context()) == nil })
	count := func(table string) string { return server.SQL("d", "SELECT count(*) FROM mqtt_auth_proxy."+table) }
	if s.partitions.covers(now) || count("telemetry_default") != "2" {
		t.Fatalf("the default partition has %s rows, want 2", count("telemetry_default"))
	}
	if err := s.makePartition(t.Context(), s.readers, now); err != nil {
		t.Fatal(err)
	}
	if n, all := count("telemetry_default"), count("telemetry"); n != "0" || all != "2" {
		t.Errorf("%s of %s rows are in the default partition, want 0 of 2", n, all)
	}
}

// TestOneStoreDoesUpkeep: while one store deletes, the others do not.
func TestOneStoreDoesUpkeep(t *testing.T) {
	server := harness.StartPostgres(t)
	o := Options{DSNFile: dsnFile(t, server.Database("d")), Retention: 48 * time.Hour}
	s := open(t, o)
	tx, err := s.readers.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, int64(upkeepID)); err != nil {
		t.Fatal(err)
	}
	other := open(t, o)
	if err := other.dropPartitions(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("error %v, want that another store does it", err)
	}
	if err := other.round(t.Context()); err != nil {
		t.Errorf("round: %v", err)
	}
}

// TestRetentionDoesNotWaitForLongQueries: a long query of another program delays retention, but not
// the devices.
func TestRetentionDoesNotWaitForLongQueries(t *testing.T) {
	server := harness.StartPostgres(t)
	var reported reports
	s := open(t, Options{DSNFile: dsnFile(t, server.Database("d")), Retention: 48 * time.Hour, OnError: reported.add})
	old := time.Now().Add(-47 * time.Hour).UnixMilli()
	if err := s.Append(t.Context(), "d", number(old, 1)); err != nil {
		t.Fatal(err)
	}
	tx, err := s.readers.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM mqtt_auth_proxy.telemetry`); err != nil {
		t.Fatal(err)
	}
	s.opts.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	if err := s.dropPartitions(t.Context()); err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("error %v, want a lock timeout", err)
	}
	if err := s.Append(t.Context(), "d", number(old, 2)); err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.dropPartitions(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
