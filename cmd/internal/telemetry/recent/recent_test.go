package recent_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/recent"
)

func point(key string, ts int64) telemetry.KeyPoint {
	return telemetry.KeyPoint{Key: key, Point: telemetry.Point{TS: ts, Value: payload.Long(ts)}}
}

// table returns points and then an error, if err is one.
func table(err error, points ...telemetry.KeyPoint) iter.Seq2[telemetry.KeyPoint, error] {
	return func(yield func(telemetry.KeyPoint, error) bool) {
		for _, p := range points {
			if !yield(p, nil) {
				return
			}
		}
		if err != nil {
			yield(telemetry.KeyPoint{}, err)
		}
	}
}

func show(points iter.Seq2[telemetry.KeyPoint, error]) string {
	var parts []string
	for p, err := range points {
		if err != nil {
			parts = append(parts, err.Error())
			continue
		}
		parts = append(parts, fmt.Sprintf("%s@%d", p.Key, p.TS))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func TestNewerValueCounts(t *testing.T) {
	var v recent.Values
	for _, ts := range []int64{5, 7, 6} {
		v.Add("d", payload.Message{TS: ts, Fields: []payload.Field{{Key: "a", Value: payload.Long(ts)}, {Key: "b", Value: payload.Long(ts)}}})
	}
	if v.Len() != 2 {
		t.Errorf("%d keys, want 2", v.Len())
	}
	fault := errors.New("fault")
	for _, c := range []struct {
		name   string
		points iter.Seq2[telemetry.KeyPoint, error]
		want   string
	}{
		{"no table", v.Of("d").Merge(table(nil)), "a@7 b@7"},
		{"an older table", v.Of("d").Merge(table(nil, point("a", 6), point("c", 1))), "a@7 b@7 c@1"},
		{"a newer table", v.Of("d").Merge(table(nil, point("a", 8))), "a@8 b@7"},
		{"some keys", v.Of("d").Merge(table(nil, point("c", 1)), "b", "c"), "b@7 c@1"},
		{"another device", v.Of("e").Merge(table(nil, point("a", 1))), "a@1"},
		{"a fault", v.Of("d").Merge(table(fault, point("a", 8))), "a@8 fault"},
	} {
		if got := show(c.points); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if v.Clear(); v.Len() != 0 || len(v.Of("d")) != 0 {
		t.Error("Clear leaves values")
	}
}
