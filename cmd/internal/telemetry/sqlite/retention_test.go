package sqlite

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// count returns the rows of a table.
func count(t *testing.T, s *Store, table string) int {
	t.Helper()
	var n int
	if err := s.readers.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRetentionWalksManyDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const devices = 2*sliceDevices + 3
		s := open(t, Options{Retention: time.Minute})
		for d := range devices {
			publish(t, s, fmt.Sprint(d), `{"a":1}`)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := count(t, s, "telemetry") + count(t, s, "latest"); n != 0 {
			t.Errorf("%d rows are left of %d devices", n, devices)
		}
	})
}

func TestRetentionFailureIsReportedAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reported := 0
		s := open(t, Options{Retention: time.Hour, OnError: func(error) { reported++ }})
		publish(t, s, "d", `{"a":1}`)
		time.Sleep(30 * time.Minute)
		synctest.Wait() // the upkeep may be due now
		execOn(t, s.opts.Path, "ALTER TABLE telemetry RENAME TO elsewhere")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if reported == 0 {
			t.Error("nothing was reported")
		}
		execOn(t, s.opts.Path, "ALTER TABLE elsewhere RENAME TO telemetry")
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := count(t, s, "telemetry"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

func TestDeletedSpaceGoesBackToTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Retention: time.Hour, Durability: "none"})
		text := payload.Text(string(make([]byte, 4000)))
		var list []payload.Message
		for i := range 2500 {
			list = append(list, message(time.Now().UnixMilli()+int64(i), payload.Field{Key: "a", Value: text}))
		}
		if err := s.Append(t.Context(), "d", list); err != nil {
			t.Fatal(err)
		}
		pages := func() (n int) {
			if err := s.readers.QueryRow("PRAGMA page_count").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		full := pages()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := pages(); n > sparePages+vacuumPages+100 || full < 3*sparePages {
			t.Errorf("%d pages became %d", full, n)
		}
	})
}

func TestUpkeepInterval(t *testing.T) {
	for retention, want := range map[time.Duration]time.Duration{
		0: longestUpkeep, 720 * time.Hour: longestUpkeep, time.Hour: 36 * time.Second, time.Second: shortestUpkeep,
	} {
		s := &Store{opts: Options{Retention: retention}}
		if got := s.upkeepEvery(); got != want {
			t.Errorf("retention %v: upkeep every %v, want %v", retention, got, want)
		}
	}
}
