package telemetry

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

func TestRange(t *testing.T) {
	s := open(t, Options{})
	publish(t, s, "d", `[{"ts":10,"values":{"a":1}},{"ts":20,"values":{"a":2,"b":"x"}},{"ts":30,"values":{"a":3}},{"ts":40,"values":{"b":"y"}}]`)
	publish(t, s, "e", `{"ts":20,"values":{"a":9}}`)
	for _, c := range []struct {
		name string
		q    Query
		want string
	}{
		{"newest first", Query{Start: 0, End: 100}, `3@30 2@20 1@10`},
		{"oldest first", Query{Start: 0, End: 100, Order: "ASC"}, `1@10 2@20 3@30`},
		{"start inclusive, end exclusive", Query{Start: 10, End: 30}, `2@20 1@10`},
		{"empty span", Query{Start: 20, End: 20}, ``},
		{"limit", Query{Start: 0, End: 100, Limit: 2}, `3@30 2@20`},
		{"limit, oldest first", Query{Start: 0, End: 100, Limit: 2, Order: "ASC"}, `1@10 2@20`},
		{"two keys", Query{Keys: []string{"b", "a"}, Start: 0, End: 100, Limit: 1}, `"y"@40 3@30`},
		{"unknown key", Query{Keys: []string{"c"}, Start: 0, End: 100}, ``},
		{"whole axis", Query{Start: math.MinInt64, End: math.MaxInt64, Limit: 1}, `3@30`},
		{"no aggregation without interval", Query{Start: 0, End: 100, Aggregate: "SUM"}, `3@30 2@20 1@10`},
		{"NONE", Query{Start: 0, End: 100, Aggregate: "NONE", Interval: 50}, `3@30 2@20 1@10`},
	} {
		c.q.Device = "d"
		if c.q.Keys == nil {
			c.q.Keys = []string{"a"}
		}
		check(t, c.name, span(t, s, c.q), c.want)
	}
}

// TestPagesBetweenTimes: who asks for one page after the other, each up to the last time
// of the one before, sees every point once, however many have the same time.
func TestPagesBetweenTimes(t *testing.T) {
	s := open(t, Options{})
	const messages, sameTime = 3 * pageRows, 100
	var list []payload.Message
	for i := range messages {
		m := message(int64(i/sameTime), payload.Field{Key: "a", Value: payload.Long(int64(i))})
		m.Arrived = true
		list = append(list, m)
	}
	if err := s.Append(t.Context(), "d", list); err != nil {
		t.Fatal(err)
	}
	for _, order := range []string{"ASC", "DESC"} {
		q := Query{Device: "d", Keys: []string{"a"}, End: messages, Limit: 7, Order: order}
		for seen := 0; seen < messages; {
			points, err := s.Range(t.Context(), q)
			if err != nil || len(points["a"]) == 0 {
				t.Fatalf("%s: no points after %d, error %v", order, seen, err)
			}
			for _, p := range points["a"] {
				want := int64(seen)
				if order == "DESC" {
					want = messages - 1 - want
				}
				if n, _ := p.Value.Long(); n != want {
					t.Fatalf("%s: point %d is %d", order, seen, n)
				}
				seen++
			}
			last := points["a"][len(points["a"])-1].TS
			if q.End = last; order == "ASC" {
				q.Start, q.End = last+1, messages
			}
		}
		check(t, "after the last page", span(t, s, q), ``)
	}
}

func TestRangeOverManyPages(t *testing.T) {
	const messages = 3*pageRows + 5
	s := open(t, Options{})
	var list []payload.Message
	for i := range messages {
		fields := []payload.Field{{Key: "a", Value: payload.Long(int64(i))}}
		if i%1000 == 7 {
			fields = append(fields, payload.Field{Key: "rare", Value: payload.Long(int64(i))})
		}
		list = append(list, message(int64(i), fields...))
	}
	if err := s.Append(t.Context(), "d", list); err != nil {
		t.Fatal(err)
	}
	for _, order := range []string{"ASC", "DESC"} {
		points, err := s.Range(t.Context(), Query{Device: "d", Keys: []string{"a"}, End: messages, Limit: messages, Order: order})
		if err != nil || len(points["a"]) != messages {
			t.Fatalf("%s: %d points, error %v", order, len(points["a"]), err)
		}
		for i, p := range points["a"] {
			want := i
			if order == "DESC" {
				want = messages - 1 - i
			}
			if p.TS != int64(want) {
				t.Fatalf("%s: point %d has time %d, want %d", order, i, p.TS, want)
			}
		}
	}
	check(t, "rare", span(t, s, Query{Device: "d", Keys: []string{"rare"}, End: messages}), `1007@1007 7@7`)
	points, err := s.Range(t.Context(), Query{Device: "d", Keys: []string{"a"}, End: messages})
	if err != nil || len(points["a"]) != defaultLimit {
		t.Errorf("%d points without a limit, error %v", len(points["a"]), err)
	}
}

func TestAggregates(t *testing.T) {
	s := open(t, Options{})
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
			if err := s.Append(t.Context(), "d", parsed(t, int64(ts), "{"+values+"}")); err != nil {
				t.Fatal(err)
			}
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
		q := Query{Device: "d", Keys: []string{c.key}, Start: 0, End: 35, Aggregate: c.aggregate, Interval: 10}
		check(t, c.aggregate+" of "+c.key, span(t, s, q), c.want)
	}
	q := Query{Device: "d", Keys: []string{"long"}, End: 35, Aggregate: "COUNT", Interval: 10, Order: "DESC"}
	check(t, "newest first", span(t, s, q), `1@32 2@15 3@5`)
	q = Query{Device: "d", Keys: []string{"long"}, Start: math.MinInt64, End: math.MaxInt64, Aggregate: "COUNT", Interval: math.MaxInt64}
	check(t, "whole axis", span(t, s, q), `7@4611686018427387902`)
}

func TestSumBeyondADouble(t *testing.T) {
	s := open(t, Options{StrictJSON: true})
	publish(t, s, "d", `[{"ts":1,"values":{"a":1.5e308,"b":1.5e308}},{"ts":2,"values":{"a":1.5e308,"b":-1.5e308}}]`)
	for aggregate, want := range map[string]string{"SUM": `0.0@5`, "AVG": `0.0@5`, "COUNT": `2@5 2@5`, "MAX": `1.5e+308@5 1.5e+308@5`} {
		q := Query{Device: "d", Keys: []string{"a", "b"}, End: 10, Aggregate: aggregate, Interval: 10}
		check(t, aggregate, span(t, s, q), want)
	}
}

func TestQueryIsRefused(t *testing.T) {
	s := open(t, Options{})
	many := make([]string, maxPoints/maxIntervals+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for name, q := range map[string]Query{
		"no keys":             {End: 10},
		"end before start":    {Keys: []string{"a"}, Start: 11, End: 10},
		"order":               {Keys: []string{"a"}, End: 10, Order: "asc"},
		"aggregate":           {Keys: []string{"a"}, End: 10, Aggregate: "MEDIAN"},
		"limit negative":      {Keys: []string{"a"}, End: 10, Limit: -1},
		"limit":               {Keys: []string{"a"}, End: 10, Limit: maxPoints + 1},
		"limit of all keys":   {Keys: []string{"a", "b"}, End: 10, Limit: maxPoints/2 + 1},
		"interval negative":   {Keys: []string{"a"}, End: 10, Aggregate: "SUM", Interval: -1},
		"701 intervals":       {Keys: []string{"a"}, End: 7001, Aggregate: "SUM", Interval: 10},
		"intervals, overflow": {Keys: []string{"a"}, Start: math.MinInt64, End: math.MaxInt64, Aggregate: "SUM", Interval: 1},
		"keys of aggregates":  {Keys: many, End: 10, Aggregate: "SUM", Interval: 10},
	} {
		q.Device = "d"
		if _, err := s.Range(t.Context(), q); !errors.Is(err, ErrQuery) || errors.Is(err, ErrStore) {
			t.Errorf("%s: error %v, want ErrQuery", name, err)
		}
	}
	q := Query{Device: "d", Keys: []string{"a"}, End: 7000, Aggregate: "SUM", Interval: 10}
	check(t, "700 intervals", span(t, s, q), ``)
}
