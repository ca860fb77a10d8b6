package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/telemetrytest"
)

// TestConformance runs in a bubble, so that retention takes no time.
func TestConformance(t *testing.T) {
	telemetrytest.Run(t, telemetrytest.Suite{
		Wrap: func(t *testing.T, check func(t *testing.T)) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
				check(t)
			})
		},
		New: func(t *testing.T, with telemetrytest.Options) telemetrytest.Fixture {
			o := Options{Path: filepath.Join(t.TempDir(), "telemetry.db"), Retention: with.Retention, MaxBytes: with.MaxBytes, Durability: "none"}
			s := open(t, o)
			return telemetrytest.Fixture{
				Store: s, Now: time.Now,
				Advance: func(d time.Duration) {
					time.Sleep(d)
					synctest.Wait()
				},
				Usage: func() (counted, stored map[string]int64) {
					time.Sleep(flushEvery)
					synctest.Wait()
					return bytesOf(t, s, countedBytes), bytesOf(t, s, storedBytes)
				},
				Reopen: func() telemetry.Store {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
					s = open(t, o)
					return s
				},
			}
		},
	})
}

const (
	countedBytes = `SELECT account, bytes FROM usage`
	storedBytes  = `SELECT device, octet_length(data) + 64 FROM telemetry
		UNION ALL SELECT device, octet_length(key) + octet_length(value) + 64 FROM attributes`
)

// bytesOf returns what a query finds for accounts, without those that have nothing.
func bytesOf(t *testing.T, s *Store, query string) map[string]int64 {
	t.Helper()
	all := make(map[string]int64)
	for rows, err := range s.query(t.Context(), query) {
		var (
			device string
			bytes  int64
		)
		if err == nil {
			err = rows.Scan(&device, &bytes)
		}
		if err != nil {
			t.Fatal(err)
		}
		all[telemetry.AccountOf(device)] += bytes
	}
	maps.DeleteFunc(all, func(_ string, bytes int64) bool { return bytes == 0 })
	return all
}

func TestDeviceNames(t *testing.T) {
	s := open(t, Options{})
	for _, device := range []string{"\x00", strings.Repeat("n", 70_000)} {
		publish(t, s, device, `{"ts":1,"values":{"k":1}}`)
		check(t, "latest", latest(t, s, device), `k=1@1`)
	}
}

func TestDevicesShareCommits(t *testing.T) {
	const devices, messages = 50, 20
	goOn := make(chan struct{}) // for the first commit, until the others wait
	s := open(t, Options{free: func(string) (uint64, error) { <-goOn; return 1 << 40, nil }})
	var publishers sync.WaitGroup
	for d := range devices {
		publishers.Go(func() {
			for i := range messages {
				publish(t, s, fmt.Sprint(d), fmt.Sprintf(`{"ts":%d,"values":{"n":%d,"m":1}}`, i, i))
			}
		})
	}
	for s.Stats().Queued < devices-1 {
		runtime.Gosched()
	}
	close(goOn)
	publishers.Wait()
	stats := s.Stats()
	if stats.Commits == 0 || stats.Commits >= stats.Messages {
		t.Errorf("%d commits for %d messages of %d devices", stats.Commits, stats.Messages, devices)
	}
	if stats.DatabaseBytes <= 0 || stats.CommitTime <= 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestFilesAreReadableByOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "odd ?name=%41#x&y.db")
	s := open(t, Options{Path: path})
	publish(t, s, "d", `{"a":1}`)
	for name, want := range map[string]os.FileMode{filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", filepath.Base(name), got, want)
		}
	}
}

func TestDurability(t *testing.T) {
	for durability, level := range map[string]int{"": 2, "sync": 2, "os": 1, "none": 0} {
		s := open(t, Options{Durability: durability})
		publish(t, s, "d", `{"a":1}`)
		var got int
		if err := s.db.QueryRow("PRAGMA synchronous").Scan(&got); err != nil || got != level {
			t.Errorf("durability %q: synchronous is %d, error %v, want %d", durability, got, err, level)
		}
	}
	_, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "t.db"), Durability: "fsync"})
	if err == nil || !strings.Contains(err.Error(), `"fsync"`) {
		t.Errorf("unknown durability: error %v", err)
	}
}

// gated is a store whose commits wait for the gate to be closed. It must be
// used in a synctest bubble.
func gated(t *testing.T) (s *Store, gate chan struct{}) {
	gate = make(chan struct{})
	return open(t, Options{free: func(string) (uint64, error) {
		<-gate
		return 1 << 40, nil
	}}), gate
}

func TestCloseCommitsWhatIsQueued(t *testing.T) {
	// The writing goroutine may see Close or the queue first: give it both chances.
	for range 10 {
		synctest.Test(t, testCloseCommitsWhatIsQueued)
	}
}

func testCloseCommitsWhatIsQueued(t *testing.T) {
	const queued = 10
	s, gate := gated(t)
	outcomes := make(chan error, queued+1)
	for i := range queued + 1 {
		go func() {
			outcomes <- intake(s).Telemetry(context.Background(), "d", fmt.Appendf(nil, `{"ts":%d,"values":{"a":1}}`, i))
		}()
		synctest.Wait()
	}
	if n := s.Stats().Queued; n != queued {
		t.Errorf("%d calls are queued, want %d", n, queued)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	synctest.Wait()
	if err := intake(s).Telemetry(t.Context(), "d", []byte(`{"a":1}`)); !errors.Is(err, telemetry.ErrStore) {
		t.Errorf("after Close: error %v, want ErrStore", err)
	}
	close(gate)
	for range queued + 1 {
		if err := <-outcomes; err != nil {
			t.Errorf("queued before Close: %v", err)
		}
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if stats := s.Stats(); stats.Messages != queued+1 || stats.Commits != 2 {
		t.Errorf("stats %+v, want the first message alone and the others in one commit", stats)
	}
	s = open(t, Options{Path: s.opts.Path})
	points, err := telemetry.Points(t.Context(), s, telemetry.Query{Device: "d", Keys: []string{"a"}, End: queued + 1})
	if err != nil || len(points["a"]) != queued+1 {
		t.Errorf("%d messages are stored, error %v", len(points["a"]), err)
	}
}

func TestCallThatGaveUpIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := gated(t)
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error), make(chan error)
		go func() { first <- intake(s).Telemetry(t.Context(), "d", []byte(`{"ts":1,"values":{"a":1}}`)) }()
		synctest.Wait()
		go func() { second <- intake(s).Telemetry(ctx, "d", []byte(`{"ts":2,"values":{"a":2}}`)) }()
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		close(gate)
		if err := <-first; err != nil {
			t.Error(err)
		}
		publish(t, s, "d", `{"ts":3,"values":{"b":3}}`)
		check(t, "latest", latest(t, s, "d"), `a=1@1 b=3@3`)
	})
}

func TestFlushKeepsMemoryBounded(t *testing.T) {
	s := open(t, Options{})
	for device := range 3 {
		var fields []payload.Field
		for i := range maxRecent {
			fields = append(fields, payload.Field{Key: fmt.Sprint(i), Value: payload.Long(int64(device))})
		}
		if err := s.Append(t.Context(), fmt.Sprint(device), []payload.Message{message(1, fields...)}); err != nil {
			t.Fatal(err)
		}
		if n := len(s.recent.Of("0")) + len(s.recent.Of("1")) + len(s.recent.Of("2")); n > maxRecent {
			t.Errorf("%d keys wait after device %d", n, device)
		}
	}
	check(t, "first device", latest(t, s, "0", "0", "9999"), `0=0@1 9999=0@1`)
	check(t, "last device", latest(t, s, "2", "0", "9999"), `0=2@1 9999=2@1`)
}
