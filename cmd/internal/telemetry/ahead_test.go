package telemetry

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestTimeFarAheadBecomesThatOfArrival: it must not stay the newest for ever.
func TestTimeFarAheadBecomesThatOfArrival(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	s := open(t, Options{Now: clock(&now)})
	last := now + maxAhead.Milliseconds()
	publish(t, s, "d", fmt.Sprintf(`[{"ts":%d,"values":{"a":1}},{"ts":%d,"values":{"b":1}},{"ts":9223372036854775807,"values":{"b":2}}]`, last, last+1))
	publish(t, s, "d", `{"b":3}`)
	check(t, "latest", latest(t, s, "d"), fmt.Sprintf(`a=1@%d b=3@%d`, last, now))
	check(t, "range", span(t, s, Query{Device: "d", Keys: []string{"b"}, End: now + 1}), fmt.Sprintf(`3@%d 2@%d 1@%d`, now, now, now))
	if n := s.Stats().Ahead; n != 2 {
		t.Errorf("%d messages counted, want 2", n)
	}
}

func TestTimeFarAheadIsRefusedIfStrict(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	s := open(t, Options{Now: clock(&now), StrictJSON: true})
	last := now + maxAhead.Milliseconds()
	publish(t, s, "d", fmt.Sprintf(`{"ts":%d,"values":{"a":1}}`, last))
	err := s.Telemetry(t.Context(), "d", fmt.Appendf(nil, `[{"a":2},{"ts":%d,"values":{"a":3}}]`, last+1))
	var bad *PayloadError
	if !errors.As(err, &bad) {
		t.Errorf("error %v, want *PayloadError", err)
	}
	check(t, "latest", latest(t, s, "d"), fmt.Sprintf(`a=1@%d`, last))
	if stats := s.Stats(); stats.Refused != 1 || stats.Ahead != 0 {
		t.Errorf("stats %+v", stats)
	}
}

// TestClockThatIsNotSet: a machine without a battery does not take the present for the
// future.
func TestClockThatIsNotSet(t *testing.T) {
	now := int64(1000)
	s := open(t, Options{Now: clock(&now), Retention: time.Second})
	publish(t, s, "d", `{"ts":1767225600000,"values":{"a":1}}`)
	check(t, "latest", latest(t, s, "d"), `a=1@1767225600000`)
	if _, ok := s.aheadCutoff(s.opts.Now()); ok {
		t.Error("retention deletes what lies ahead of a clock that is not set")
	}
}

// TestRetentionDeletesWhatLiesAhead: such rows are from before there was a bound. The
// newest value is then the newest of those that are left.
func TestRetentionDeletesWhatLiesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const retention = 48 * time.Hour
		time.Sleep(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Sub(time.Now()))
		now := time.Now().UnixMilli()
		s := open(t, Options{Retention: retention})
		for i := range int64(2*sliceRows + 5) {
			// Append does not look at times, as versions before did not.
			if err := s.Append(t.Context(), "d", parsed(t, 99999999999999+i, `{"a":99,"gone":1}`)); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, s, "d", `[{"a":1,"b":1},{"a":2}]`)
		kept := now + (retention - time.Hour).Milliseconds()
		if err := s.Append(t.Context(), "e", parsed(t, kept, `{"a":7}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * longestUpkeep)
		synctest.Wait()
		check(t, "latest", latest(t, s, "d"), fmt.Sprintf(`a=2@%d b=1@%d`, now, now))
		check(t, "within the retention", latest(t, s, "e"), fmt.Sprintf(`a=7@%d`, kept))
		if n := count(t, s, "telemetry"); n != 3 {
			t.Errorf("%d messages are left, want 3", n)
		}
	})
}
