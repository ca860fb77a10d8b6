package sqlite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

func TestFullDisk(t *testing.T) {
	s := open(t, Options{maxPages: 60})
	text := strings.Repeat("x", 3000)
	fill := func() (stored int64, err error) {
		for ts := int64(1); ; ts++ {
			err := s.Append(t.Context(), "d", parsed(t, ts, `{"a":"`+text+`"}`))
			if err != nil {
				return ts - 1, err
			}
			if ts > 1000 {
				t.Fatal("the database has no limit")
			}
		}
	}
	n, err := fill()
	if !errors.Is(err, telemetry.ErrStore) || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), s.opts.Path) {
		t.Fatalf("error %q, want ErrStore with the path", err)
	}
	if strings.Contains(err.Error(), "xxx") {
		t.Errorf("error quotes the payload: %v", err)
	}
	if n < 10 {
		t.Fatalf("full after %d messages", n)
	}
	for range 3 {
		if err := s.Append(t.Context(), "d", parsed(t, n+1, `{"a":"`+text+`"}`)); !errors.Is(err, telemetry.ErrStore) {
			t.Errorf("still full: error %v, want ErrStore", err)
		}
	}
	points, err := telemetry.Points(t.Context(), s, telemetry.Query{Device: "d", Keys: []string{"a"}, End: 1 << 40, Limit: 1000})
	if err != nil || int64(len(points["a"])) != n {
		t.Errorf("%d messages are stored, error %v; %d were acknowledged", len(points["a"]), err, n)
	}
	execOn(t, s.opts.Path, "DELETE FROM telemetry WHERE ts <= 10")
	publish(t, s, "d", `{"ts":5000,"values":{"b":1}}`)
	check(t, "after room was made", latest(t, s, "d", "b"), `b=1@5000`)
	if stats := s.Stats(); stats.Errors != 4 || stats.Messages != n+1 {
		t.Errorf("stats %+v, want 4 errors and %d messages", stats, n+1)
	}
}

func TestLowDiskSpace(t *testing.T) {
	const minFree = 64 << 20
	var free atomic.Uint64
	var asked atomic.Value
	free.Store(minFree)
	s := open(t, Options{MinFree: minFree, free: func(dir string) (uint64, error) {
		asked.Store(dir)
		return free.Load(), nil
	}})
	publish(t, s, "d", `{"ts":1,"values":{"a":1}}`)
	if asked.Load() != filepath.Dir(s.opts.Path) {
		t.Errorf("asked about %s", asked.Load())
	}
	if err := s.Writable(); err != nil {
		t.Errorf("not writable: %v", err)
	}
	free.Store(minFree - 1)
	for name, err := range map[string]error{
		"telemetry":  intake(s).Telemetry(t.Context(), "d", []byte(`{"a":2}`)),
		"attributes": intake(s).Attributes(t.Context(), "d", []byte(`{"a":2}`)),
		"writable":   s.Writable(),
	} {
		if !errors.Is(err, telemetry.ErrStore) || !strings.Contains(err.Error(), "67108863 bytes of disk are free") {
			t.Errorf("%s: error %v, want ErrStore with the number of bytes", name, err)
		}
	}
	check(t, "reads go on", latest(t, s, "d"), `a=1@1`)
	free.Store(minFree)
	if err := s.Writable(); err != nil {
		t.Errorf("not writable after room was made: %v", err)
	}
	publish(t, s, "d", `{"ts":2,"values":{"a":3}}`)
	check(t, "writes go on", latest(t, s, "d"), `a=3@2`)
}

// TestWritableAgainByItself: devices that are sent elsewhere would not bring the commit
// that shows that commits work again.
func TestWritableAgainByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{})
		execOn(t, s.opts.Path, "ALTER TABLE unflushed RENAME TO elsewhere")
		if err := s.Writable(); err != nil {
			t.Errorf("before anything failed: %v", err)
		}
		if err := intake(s).Telemetry(t.Context(), "d", []byte(`{"a":1}`)); err == nil {
			t.Fatal("stored")
		}
		for range 3 {
			if err := s.Writable(); !errors.Is(err, telemetry.ErrStore) || !strings.Contains(err.Error(), s.opts.Path) {
				t.Errorf("error %v, want ErrStore with the path", err)
			}
			time.Sleep(flushEvery)
			synctest.Wait()
		}
		execOn(t, s.opts.Path, "ALTER TABLE elsewhere RENAME TO unflushed")
		time.Sleep(flushEvery)
		synctest.Wait()
		if err := s.Writable(); err != nil {
			t.Errorf("after it was mended: %v", err)
		}
		if n := count(t, s, "unflushed"); n != 0 {
			t.Errorf("trying left %d rows", n)
		}
		publish(t, s, "d", `{"ts":1,"values":{"a":1}}`)
	})
}

func TestCommitThatHangsIsNotWritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := gated(t)
		stored := make(chan error)
		go func() { stored <- intake(s).Telemetry(t.Context(), "d", []byte(`{"a":1}`)) }()
		time.Sleep(slowCommit + 2*time.Second)
		if err := s.Writable(); !errors.Is(err, telemetry.ErrStore) || !strings.Contains(err.Error(), "waiting for the disk for 12s") {
			t.Errorf("error %v does not say how long", err)
		}
		close(gate)
		if err := <-stored; err != nil {
			t.Error(err)
		}
		if err := s.Writable(); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Writable(); !errors.Is(err, telemetry.ErrStore) {
			t.Errorf("closed: error %v, want ErrStore", err)
		}
	})
}

func TestCheckSpace(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "t.db"), filepath.Join(dir, "not", "yet", "made", "t.db")} {
		if err := CheckSpace(path, 1); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if err := CheckSpace(path, 1<<62); err == nil || !strings.Contains(err.Error(), "bytes of disk are free at "+dir) {
			t.Errorf("%s: error %v does not name the directory", path, err)
		}
	}
}

func TestUnknownDiskSpace(t *testing.T) {
	s := open(t, Options{free: func(string) (uint64, error) { return 0, os.ErrPermission }})
	if err := intake(s).Telemetry(t.Context(), "d", []byte(`{"a":1}`)); !errors.Is(err, telemetry.ErrStore) || !errors.Is(err, os.ErrPermission) {
		t.Errorf("error %v, want ErrStore and its cause", err)
	}
}

func TestFailedCommitLeavesNothing(t *testing.T) {
	s := open(t, Options{})
	publish(t, s, "d", `{"ts":1,"values":{"a":1}}`)
	// Fails in the middle: after the message, before its note for the table latest.
	execOn(t, s.opts.Path, "ALTER TABLE unflushed RENAME TO elsewhere")
	for range 3 {
		err := intake(s).Telemetry(t.Context(), "d", []byte(`[{"ts":2,"values":{"a":2}},{"ts":3,"values":{"a":3}}]`))
		if !errors.Is(err, telemetry.ErrStore) {
			t.Errorf("error %v, want ErrStore", err)
		}
	}
	check(t, "latest", latest(t, s, "d"), `a=1@1`)
	check(t, "range", span(t, s, telemetry.Query{Device: "d", Keys: []string{"a"}, End: 9}), `1@1`)
	execOn(t, s.opts.Path, "ALTER TABLE elsewhere RENAME TO unflushed")
	publish(t, s, "d", `{"ts":4,"values":{"a":4}}`)
	check(t, "repaired", span(t, s, telemetry.Query{Device: "d", Keys: []string{"a"}, End: 9}), `4@4 1@1`)
}

func TestFailedFlushIsReportedAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported []error
		s := open(t, Options{OnError: func(err error) { reported = append(reported, err) }})
		publish(t, s, "d", `{"ts":1,"values":{"a":1}}`)
		execOn(t, s.opts.Path, "ALTER TABLE latest RENAME TO elsewhere")
		time.Sleep(2*flushEvery + 1)
		synctest.Wait()
		if len(reported) != 2 || !errors.Is(reported[0], telemetry.ErrStore) {
			t.Fatalf("reported %v, want ErrStore twice", reported)
		}
		execOn(t, s.opts.Path, "ALTER TABLE elsewhere RENAME TO latest")
		check(t, "before", latest(t, s, "d"), `a=1@1`)
		time.Sleep(flushEvery)
		synctest.Wait()
		if n := len(s.recent.Of("d")); n != 0 || len(reported) != 2 {
			t.Errorf("%d keys wait for a flush, reported %v", n, reported)
		}
		check(t, "after", latest(t, s, "d"), `a=1@1`)
		var notes int
		if err := s.readers.QueryRow("SELECT count(*) FROM unflushed").Scan(&notes); err != nil || notes != 0 {
			t.Errorf("%d notes are left, error %v", notes, err)
		}
	})
}

func TestOpenRefusesWhatItCannotRead(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    string
	}{
		"no database": {func(t *testing.T, path string) {
			write(t, path, bytes.Repeat([]byte("not a database\n"), 1000))
		}, "is damaged: stop the proxy, move the file"},
		"damaged header": {func(t *testing.T, path string) {
			ours(t, path)
			data := read(t, path)
			copy(data, "SQLite format 9")
			write(t, path, data)
		}, "is damaged: stop the proxy, move the file"},
		"damaged schema": {func(t *testing.T, path string) {
			ours(t, path)
			data := read(t, path)
			for i := 100; i < 4096; i++ {
				data[i] = 0xff
			}
			write(t, path, data)
		}, "is damaged: stop the proxy, move the file"},
		"cut short": {func(t *testing.T, path string) {
			ours(t, path)
			write(t, path, read(t, path)[:5000])
		}, "is damaged: stop the proxy, move the file"},
		"of another program": {func(t *testing.T, path string) {
			execOn(t, path, "CREATE TABLE t (x)")
		}, "belongs to another program: choose another file"},
		"of a newer version": {func(t *testing.T, path string) {
			ours(t, path)
			execOn(t, path, "PRAGMA user_version = 9")
		}, "it has format 9, this version reads 2"},
		"a directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.db")
			c.prepare(t, path)
			before, _ := os.ReadFile(path)
			s, err := Open(t.Context(), Options{Path: path})
			if err == nil {
				t.Fatal("opened", s.Close())
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not say %q and the path", err, c.want)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestOpenNeedsAPath(t *testing.T) {
	if s, err := Open(t.Context(), Options{}); err == nil {
		t.Fatal("opened", s.Close())
	}
}

func TestDamagedRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	s := open(t, Options{Path: path})
	publish(t, s, "d", `{"ts":1,"values":{"a":1}}`)
	if err := intake(s).Attributes(t.Context(), "d", []byte(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execOn(t, path, `UPDATE telemetry SET data = '{"a":'; UPDATE latest SET value = '"'; UPDATE attributes SET value = ''`)
	s = open(t, Options{Path: path})
	for name, call := range map[string]func() error{
		"latest":     func() error { _, err := telemetry.Latest(t.Context(), s, "d"); return err },
		"attributes": func() error { _, err := telemetry.Attributes(t.Context(), s, "d", telemetry.ClientScope); return err },
		"range": func() error {
			_, err := telemetry.Points(t.Context(), s, telemetry.Query{Device: "d", Keys: []string{"a"}, End: 9})
			return err
		},
		"merge": func() error { return intake(s).Telemetry(t.Context(), "d", []byte(`{"ts":1,"values":{"b":1}}`)) },
	} {
		err := call()
		var bad *telemetry.PayloadError
		if !errors.Is(err, telemetry.ErrStore) || errors.As(err, &bad) || !strings.Contains(err.Error(), "is damaged: stop the proxy") {
			t.Errorf("%s: error %v, want ErrStore and what to do", name, err)
		}
	}
	publish(t, s, "d", `{"ts":2,"values":{"b":1}}`)
}

// TestDamagedRowAffectsOnlyItsDevice: others in the same commit are stored.
func TestDamagedRowAffectsOnlyItsDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	ours(t, path)
	execOn(t, path, `INSERT INTO telemetry VALUES ('damaged', 1, 0, '{"a":')`)
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := open(t, Options{Path: path, free: func(string) (uint64, error) {
			<-gate
			return 1 << 40, nil
		}})
		outcomes := map[string]chan error{}
		for _, device := range []string{"first", "damaged", "other"} {
			outcomes[device] = make(chan error, 1)
			go func() {
				outcomes[device] <- intake(s).Telemetry(t.Context(), device, []byte(`[{"ts":2,"values":{"a":1}},{"ts":1,"values":{"a":1}}]`))
			}()
			synctest.Wait()
		}
		close(gate)
		for device, outcome := range outcomes {
			if err := <-outcome; (device == "damaged") != errors.Is(err, telemetry.ErrStore) {
				t.Errorf("%s: %v", device, err)
			}
		}
		if commits := s.Stats().Commits; commits != 2 {
			t.Errorf("%d commits, want the first message alone and the others in one", commits)
		}
		check(t, "other", latest(t, s, "other"), `a=1@2`)
		check(t, "damaged", latest(t, s, "damaged"), ``)
		if err := s.Writable(); err != nil {
			t.Errorf("not writable: %v", err)
		}
	})
}

func TestDamagedNotes(t *testing.T) {
	for _, notes := range []string{`[`, `[{"d":"d","t":1}]`} {
		path := filepath.Join(t.TempDir(), "t.db")
		ours(t, path)
		execOn(t, path, `INSERT INTO telemetry VALUES ('d', 1, 0, '{'); INSERT INTO unflushed (messages) VALUES ('`+notes+`')`)
		s, err := Open(t.Context(), Options{Path: path})
		if err == nil {
			t.Fatal("opened", s.Close())
		}
		if !strings.Contains(err.Error(), path+" is damaged: stop the proxy") {
			t.Errorf("error %v does not say what to do", err)
		}
	}
}

func TestNotesOfDeletedMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	ours(t, path)
	execOn(t, path, `INSERT INTO unflushed (messages) VALUES ('[{"d":"gone","t":1}]')`)
	s := open(t, Options{Path: path})
	check(t, "latest", latest(t, s, "gone"), ``)
}
