package postgres

import (
	"testing"
	"time"
)

func TestNewPartitionsLieBetweenTheOthers(t *testing.T) {
	const hour = 3_600_000
	others := []partition{{"a", 2 * hour, 3*hour - 10}, {"b", 4*hour + 10, 9 * hour}}
	for _, c := range []struct{ ts, start, end int64 }{
		{0, 0, hour},
		{-1, -hour, 0},
		{3*hour - 5, 3*hour - 10, 3 * hour},
		{4 * hour, 4 * hour, 4*hour + 10},
		{9 * hour, 9 * hour, 10 * hour},
	} {
		at, found := search(others, c.ts)
		if p := gap(others, at, c.ts, hour); found || p.start != c.start || p.end != c.end {
			t.Errorf("%d: %v %+v, want %d to %d", c.ts, found, p, c.start, c.end)
		}
	}
	for _, ts := range []int64{2 * hour, 3*hour - 11, 5 * hour} {
		if _, found := search(others, ts); !found {
			t.Errorf("%d: not found", ts)
		}
	}
}

func TestWidthFollowsRetention(t *testing.T) {
	const day = 24 * time.Hour
	for retention, want := range map[time.Duration]time.Duration{
		0: 28 * day, time.Second: time.Hour, 60 * time.Hour: time.Hour, 7 * day: 6 * time.Hour,
		30 * day: day, 365 * day: 7 * day, 3650 * day: 28 * day,
	} {
		s := &Store{opts: Options{Retention: retention}}
		if got := time.Duration(s.width()) * time.Millisecond; got != want {
			t.Errorf("%v: %v, want %v", retention, got, want)
		}
	}
}
