package sqlite

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// format1 makes a database of format 1 as the versions that wrote it did.
const format1 = `
PRAGMA auto_vacuum = incremental;
PRAGMA journal_mode = wal;
CREATE TABLE telemetry (
	device TEXT NOT NULL, ts INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (device, ts)
) STRICT, WITHOUT ROWID;
CREATE TABLE latest (
	device TEXT NOT NULL, key TEXT NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE attributes (
	device TEXT NOT NULL, key TEXT NOT NULL, ts INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE unflushed (
	id INTEGER PRIMARY KEY, messages TEXT NOT NULL
) STRICT;
PRAGMA application_id = 0x4d415054;
PRAGMA user_version = 1;
INSERT INTO telemetry VALUES ('d', 10, '{"a":1}'), ('d', 20, '{"a":2,"b":2.0}'), ('d', 30, '{"a":"x"}'), ('e', 20, '{"a":4}');
INSERT INTO latest VALUES ('d', 'a', 20, '2'), ('d', 'b', 20, '2.0'), ('e', 'a', 20, '4');
INSERT INTO attributes VALUES ('d', 'fw', 10, '"1.2.3"');
INSERT INTO unflushed (messages) VALUES ('[{"d":"d","t":30}]');
`

func TestFormat1IsMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	execOn(t, path, format1)
	now := int64(20)
	s := open(t, Options{Path: path, Now: clock(&now)})
	all := telemetry.Query{Device: "d", Keys: []string{"a", "b"}, End: 99}
	check(t, "range", span(t, s, all), `"x"@30 2@20 1@10 2.0@20`)
	check(t, "latest", latest(t, s, "d"), `a="x"@30 b=2.0@20`)
	check(t, "another device", latest(t, s, "e"), `a=4@20`)
	check(t, "attributes", attributes(t, s, "d"), `fw="1.2.3"@10`)
	publish(t, s, "d", `{"b":3}`)
	publish(t, s, "d", `{"ts":10,"values":{"a":5}}`)
	const want = `"x"@30 2@20 5@10 3@20 2.0@20`
	check(t, "messages that follow", span(t, s, all), want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: path})
	check(t, "reopened", span(t, s, all), want)
	if _, version, tables, err := s.identity(t.Context()); version != schemaVersion || tables != 8 || err != nil {
		t.Errorf("format %d with %d tables, error %v", version, tables, err)
	}
}

// TestOlderDatabaseGetsNewerTables: an older database gets the newer tables without being
// rewritten. It keeps its rows, and an older version can still read it.
func TestOlderDatabaseGetsNewerTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	now := int64(20)
	older := open(t, Options{Path: path, Now: clock(&now)})
	publish(t, older, "g/a", `{"ts":1,"values":{"k":1}}`) // a device, not one behind a gateway
	publish(t, older, telemetry.ChildName("g", 1), `{"k":1}`)
	publish(t, older, telemetry.ChildName("g", 2), `[{"k":1},{"k":2}]`)
	if err := older.SetAttributes(t.Context(), "d", telemetry.ClientScope, 1, []payload.Field{{Key: "a", Value: payload.Long(1)}}); err != nil {
		t.Fatal(err)
	}
	if err := older.Close(); err != nil {
		t.Fatal(err)
	}
	execOn(t, path, "DROP TABLE shared_attributes; DROP TABLE children; DROP TABLE usage")
	s := open(t, Options{Path: path, Now: clock(&now)})
	checkUsage(t, s)
	if err := s.SetAttributes(t.Context(), "d", telemetry.SharedScope, 1, []payload.Field{{Key: "a", Value: payload.Long(1)}}); err != nil {
		t.Fatal(err)
	}
	list, err := telemetry.Attributes(t.Context(), s, "d", telemetry.SharedScope)
	if err != nil || len(list) != 1 {
		t.Errorf("attributes %v, error %v", list, err)
	}
	family := telemetry.WithChildren(s)
	err = family.Append(t.Context(), "g/a", []payload.Message{{TS: 2, Fields: []payload.Field{{Key: "k", Value: payload.Long(2)}}}})
	if err != nil {
		t.Fatal(err)
	}
	points, err := telemetry.Latest(t.Context(), family, "g/a")
	if err != nil || points["k"].TS != 2 {
		t.Errorf("the child has %v, error %v", points, err)
	}
	check(t, "the device", latest(t, s, "g/a"), `k=1@1`)
	if _, version, _, err := s.identity(t.Context()); version != schemaVersion || err != nil {
		t.Errorf("format %d, error %v", version, err)
	}
}

// TestFullDeviceHasRoomAfterOlderVersion: what a version that does not count bytes has deleted by
// retention does not keep devices from storing.
func TestFullDeviceHasRoomAfterOlderVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	now := int64(20)
	options := Options{Path: path, MaxBytes: 300, Now: clock(&now)}
	s := open(t, options)
	devices := []string{"d", telemetry.ChildName("g", 1), "g"}
	for _, device := range devices {
		publish(t, s, device, fmt.Sprintf(`{"k":"%s"}`, strings.Repeat("x", 100)))
	}
	if err := s.SetAttributes(t.Context(), "d", telemetry.ClientScope, 1, []payload.Field{{Key: "a", Value: payload.Long(1)}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execOn(t, path, "DELETE FROM telemetry; DELETE FROM latest")
	s = open(t, options)
	for _, device := range devices {
		publish(t, s, device, fmt.Sprintf(`{"k":"%s"}`, strings.Repeat("x", 150)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkUsage(t, open(t, options))
}

// TestMigrationIsAllOrNothing: a disk that is full in the middle leaves the old format.
func TestMigrationIsAllOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	execOn(t, path, format1)
	text := strings.Repeat("x", 1000)
	for i := range 50 {
		execOn(t, path, fmt.Sprintf(`INSERT INTO telemetry VALUES ('full', %d, '{"a":"%s"}')`, i, text))
	}
	s, err := Open(t.Context(), Options{Path: path, maxPages: 30})
	if err == nil {
		t.Fatal("migrated without room", s.Close())
	}
	if want := path + ": it has format 1 and could not be brought to format 2, which for a while takes as much disk space again"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
	execOn(t, path, `INSERT INTO telemetry VALUES ('full', 50, '{"a":1}')`) // as a program of format 1 would
	execOn(t, path, `INSERT INTO latest VALUES ('full', 'a', 50, '1')`)
	s = open(t, Options{Path: path})
	check(t, "after room was made", latest(t, s, "d"), `a="x"@30 b=2.0@20`)
	points, err := telemetry.Points(t.Context(), s, telemetry.Query{Device: "full", Keys: []string{"a"}, End: 99})
	if err != nil || len(points["a"]) != 51 {
		t.Errorf("%d messages, error %v, want 51", len(points["a"]), err)
	}
}
