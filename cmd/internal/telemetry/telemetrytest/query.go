package telemetrytest

import (
	"context"
	"fmt"
	"iter"
	"math"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

func checkRanges(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.publish("d", `[{"ts":10,"values":{"a":1}},{"ts":20,"values":{"a":2,"b":"x"}},{"ts":30,"values":{"a":3}},{"ts":40,"values":{"b":"y"}}]`)
	f.publish("e", `{"ts":20,"values":{"a":9}}`)
	f.publish("axis", `[{"ts":-9223372036854775808,"values":{"a":1}},{"ts":-1,"values":{"a":2}},{"ts":0,"values":{"a":3}}]`)
	type query = telemetry.Query
	for _, c := range []struct {
		name string
		q    query
		want string
	}{
		{"newest first", query{End: 100}, `3@30 2@20 1@10`},
		{"oldest first", query{End: 100, Order: "ASC"}, `1@10 2@20 3@30`},
		{"start inclusive, end exclusive", query{Start: 10, End: 30}, `2@20 1@10`},
		{"the same, oldest first", query{Start: 10, End: 30, Order: "ASC"}, `1@10 2@20`},
		{"empty range", query{Start: 20, End: 20}, ``},
		{"limit", query{End: 100, Limit: 2}, `3@30 2@20`},
		{"limit, oldest first", query{End: 100, Limit: 2, Order: "ASC"}, `1@10 2@20`},
		{"two keys", query{Keys: []string{"b", "a"}, End: 100, Limit: 1}, `"y"@40 3@30`},
		{"unknown key", query{Keys: []string{"c"}, End: 100}, ``},
		{"whole axis", query{Start: math.MinInt64, End: math.MaxInt64, Limit: 1}, `3@30`},
		{"both ends", query{Device: "axis", Start: math.MinInt64, End: math.MaxInt64}, `3@0 2@-1 1@-9223372036854775808`},
		{"both ends, oldest first", query{Device: "axis", Start: math.MinInt64, End: 0, Order: "ASC"}, `1@-9223372036854775808 2@-1`},
		{"no aggregation without interval", query{End: 100, Aggregate: "SUM"}, `3@30 2@20 1@10`},
		{"NONE", query{End: 100, Aggregate: "NONE", Interval: 50}, `3@30 2@20 1@10`},
	} {
		if c.q.Device == "" {
			c.q.Device = "d"
		}
		if c.q.Keys == nil {
			c.q.Keys = []string{"a"}
		}
		f.check(c.name, f.points(c.q), c.want)
	}
}

// manyMessages is more than a store reads at once.
const manyMessages = 1600

// checkPages: a reader who asks for one page after the other, each up to the last time of
// the one before, sees every point once, however many have the same time.
func checkPages(t *testing.T, s Suite) {
	const sameTime = 100
	f := s.open(t, 0)
	var list []payload.Message
	for i := range manyMessages {
		m := message(int64(i/sameTime), payload.Field{Key: "a", Value: payload.Long(int64(i))})
		m.Arrived = true
		list = append(list, m)
	}
	if err := f.Store.Append(t.Context(), "d", list); err != nil {
		t.Fatal(err)
	}
	for _, order := range []string{"ASC", "DESC"} {
		q := telemetry.Query{Device: "d", Keys: []string{"a"}, End: manyMessages, Limit: 7, Order: order}
		for seen := 0; seen < manyMessages; {
			points, err := telemetry.Points(t.Context(), f.Store, q)
			if err != nil || len(points["a"]) == 0 {
				t.Fatalf("%s: no points after %d, error %v", order, seen, err)
			}
			for _, p := range points["a"] {
				want := int64(seen)
				if order == "DESC" {
					want = manyMessages - 1 - want
				}
				if n, _ := p.Value.Long(); n != want {
					t.Fatalf("%s: point %d is %d", order, seen, n)
				}
				seen++
			}
			last := points["a"][len(points["a"])-1].TS
			if q.End = last; order == "ASC" {
				q.Start, q.End = last+1, manyMessages
			}
		}
		f.check("after the last page", f.points(q), ``)
	}
}

func checkLongRanges(t *testing.T, s Suite) {
	f := s.open(t, 0)
	var list []payload.Message
	for i := range manyMessages {
		fields := []payload.Field{{Key: "a", Value: payload.Long(int64(i))}}
		if i%1000 == 7 {
			fields = append(fields, payload.Field{Key: "rare", Value: payload.Long(int64(i))})
		}
		list = append(list, message(int64(i), fields...))
	}
	if err := f.Store.Append(t.Context(), "d", list); err != nil {
		t.Fatal(err)
	}
	for _, order := range []string{"ASC", "DESC"} {
		q := telemetry.Query{Device: "d", Keys: []string{"a"}, End: manyMessages, Limit: manyMessages, Order: order}
		points, err := telemetry.Points(t.Context(), f.Store, q)
		if err != nil || len(points["a"]) != manyMessages {
			t.Fatalf("%s: %d points, error %v", order, len(points["a"]), err)
		}
		for i, p := range points["a"] {
			want := int64(i)
			if order == "DESC" {
				want = manyMessages - 1 - want
			}
			if p.TS != want {
				t.Fatalf("%s: point %d has time %d, want %d", order, i, p.TS, want)
			}
		}
	}
	f.check("rare", f.points(telemetry.Query{Device: "d", Keys: []string{"rare"}, End: manyMessages}), `1007@1007 7@7`)
	points, err := telemetry.Points(t.Context(), f.Store, telemetry.Query{Device: "d", Keys: []string{"a"}, End: manyMessages})
	if err != nil || len(points["a"]) != 100 {
		t.Errorf("%d points without a limit, error %v", len(points["a"]), err)
	}
}

func checkAggregates(t *testing.T, s Suite) {
	f := s.open(t, 0)
	for ts, values := range []string{
		0: `"long":3,"mixed":1,"text":"b","flag":true,"all":1`,
		1: `"long":-1,"mixed":0.5,"text":"a","flag":false,"all":"x"`,
		2: `"long":4,"mixed":"zzz","text":"c","all":{"a":1}`,
		// The second interval is 10 to 20.
		12: `"long":9223372036854775807,"mixed":"b"`,
		13: `"long":1,"mixed":"a"`,
		// The third has nothing; the fourth is cut by the end, 35.
		34: `"long":7`,
		35: `"long":1000`,
	} {
		if values != "" {
			f.append("d", int64(ts), "{"+values+"}")
		}
	}
	for _, c := range []struct{ key, aggregate, want string }{
		{"long", "MIN", `-1@5 1@15 7@32`},
		{"long", "MAX", `4@5 9223372036854775807@15 7@32`},
		{"long", "SUM", `6@5 9223372036854776000.0@15 7@32`},
		{"long", "AVG", `2.0@5 4611686018427388000.0@15 7.0@32`},
		{"long", "COUNT", `3@5 2@15 1@32`},
		{"mixed", "MIN", `0.5@5 "a"@15`},
		{"mixed", "MAX", `1@5 "b"@15`},
		{"mixed", "SUM", `1.5@5`},
		{"mixed", "AVG", `0.75@5`},
		{"mixed", "COUNT", `3@5 2@15`},
		{"text", "MIN", `"a"@5`},
		{"text", "MAX", `"c"@5`},
		{"text", "SUM", ``},
		{"text", "AVG", ``},
		{"flag", "MIN", ``},
		{"flag", "COUNT", `2@5`},
		{"all", "MAX", `1@5`},
		{"all", "COUNT", `3@5`},
		{"unknown", "COUNT", ``},
	} {
		q := telemetry.Query{Device: "d", Keys: []string{c.key}, Start: 0, End: 35, Aggregate: c.aggregate, Interval: 10}
		f.check(c.aggregate+" of "+c.key, f.points(q), c.want)
	}
	q := telemetry.Query{Device: "d", Keys: []string{"long"}, End: 35, Aggregate: "COUNT", Interval: 10, Order: "DESC"}
	f.check("newest first", f.points(q), `1@32 2@15 3@5`)
	q = telemetry.Query{Device: "d", Keys: []string{"long"}, Start: math.MinInt64, End: math.MaxInt64, Aggregate: "COUNT", Interval: math.MaxInt64}
	f.check("whole axis", f.points(q), `7@4611686018427387902`)
}

// counted is a store that counts the messages that it returns.
type counted struct {
	telemetry.Reader
	n int
}

func (c *counted) Messages(ctx context.Context, r telemetry.Range) iter.Seq2[payload.Message, error] {
	return func(yield func(payload.Message, error) bool) {
		for m, err := range c.Reader.Messages(ctx, r) {
			c.n++
			if !yield(m, err) {
				return
			}
		}
	}
}

// checkMissingKey: a question about a key that the device does not have reads none of its messages,
// and a missing key next to others does not make the question read more than without it.
func checkMissingKey(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.publish("d", `[{"ts":10,"values":{"a":1}},{"ts":20,"values":{"a":2}},{"ts":30,"values":{"a":3}}]`)
	for _, c := range []struct {
		keys      []string
		aggregate string
		visited   int
		want      string
	}{
		{[]string{"nope", "\x00"}, "NONE", 0, `map[]`},
		{[]string{"nope"}, "COUNT", 0, `map[]`},
		{[]string{"a"}, "NONE", 2, `map[a:[{30 3}]]`},
		{[]string{"nope", "a"}, "NONE", 2, `map[a:[{30 3}]]`},
		{[]string{"a"}, "COUNT", 3, `map[a:[{50 3}]]`},
	} {
		store := &counted{Reader: f.Store}
		q := telemetry.Query{Device: "d", Keys: c.keys, End: 100, Limit: 1, Aggregate: c.aggregate, Interval: 100}
		points, err := telemetry.Points(t.Context(), store, q)
		if err != nil || store.n != c.visited || fmt.Sprint(points) != c.want {
			t.Errorf("%s of %q: %d messages visited, answer %v, error %v, want %d, %s", c.aggregate, c.keys, store.n, points, err, c.visited, c.want)
		}
	}
}
