package sqlite

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(publisherEnv); path != "" {
		publishUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

// open opens a store in a directory of its own, or at opts.Path, and closes it
// with the test.
func open(t testing.TB, opts Options) *Store {
	t.Helper()
	if opts.Path == "" {
		opts.Path = filepath.Join(t.TempDir(), "telemetry.db")
	}
	if opts.OnError == nil {
		opts.OnError = func(err error) { t.Errorf("in the background: %v", err) }
	}
	store, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return store
}

// clock is a time that stands still until it is set.
func clock(ms *int64) func() time.Time {
	return func() time.Time { return time.UnixMilli(*ms) }
}

// intake returns what takes payloads for s.
func intake(s *Store) *telemetry.Intake { return &telemetry.Intake{Store: s, Now: s.opts.Now} }

func publish(t testing.TB, s *Store, device, payload string) {
	t.Helper()
	if err := intake(s).Telemetry(context.Background(), device, []byte(payload)); err != nil {
		t.Errorf("publish: %v", err)
	}
}

// latest shows the device's newest values as "key=value@ts", in order of keys.
func latest(t testing.TB, s *Store, device string, keys ...string) string {
	t.Helper()
	points, err := telemetry.Latest(context.Background(), s, device, keys...)
	if err != nil {
		t.Fatal(err)
	}
	names, err := telemetry.Keys(context.Background(), s, device)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, key := range names {
		if p, ok := points[key]; ok {
			parts = append(parts, key+"="+showPoint(p))
		}
	}
	return strings.Join(parts, " ")
}

func showPoint(p telemetry.Point) string {
	return string(p.Value.AppendJSON(nil)) + "@" + strconv.FormatInt(p.TS, 10)
}

// span shows what a query finds for one key.
func span(t testing.TB, s *Store, q telemetry.Query) string {
	t.Helper()
	points, err := telemetry.Points(context.Background(), s, q)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, key := range q.Keys {
		for _, p := range points[key] {
			parts = append(parts, showPoint(p))
		}
	}
	return strings.Join(parts, " ")
}

// attributes shows the device's attributes like latest.
func attributes(t testing.TB, s *Store, device string, keys ...string) string {
	t.Helper()
	list, err := telemetry.Attributes(context.Background(), s, device, telemetry.ClientScope, keys...)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, a := range list {
		parts = append(parts, a.Key+"="+showPoint(a.Point))
	}
	return strings.Join(parts, " ")
}

func check(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func message(ts int64, fields ...payload.Field) payload.Message {
	return payload.Message{TS: ts, Fields: fields}
}

// parsed returns the messages of a payload that comes at ts.
func parsed(t testing.TB, ts int64, data string) []payload.Message {
	t.Helper()
	list, err := payload.Parse([]byte(data), time.UnixMilli(ts), payload.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// execOn changes a database over a connection of its own.
func execOn(t testing.TB, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(30000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// ours leaves a database of this package at path.
func ours(t testing.TB, path string) {
	t.Helper()
	s := open(t, Options{Path: path})
	publish(t, s, "d", `{"a":1}`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
