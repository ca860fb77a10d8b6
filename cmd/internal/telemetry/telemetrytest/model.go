package telemetrytest

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// model is what a store should hold: the messages of each device in order of arrival.
type model map[string][]*stored

type stored struct {
	ts     int64
	values map[string]payload.Value
}

func (m model) append(device string, list []payload.Message) {
	for _, msg := range list {
		var into *stored
		for _, s := range m[device] {
			if s.ts == msg.TS && !msg.Arrived {
				into = s
				for _, f := range msg.Fields {
					delete(s.values, f.Key)
				}
			}
		}
		if into == nil {
			into = &stored{msg.TS, map[string]payload.Value{}}
			m[device] = append(m[device], into)
		}
		for _, f := range msg.Fields {
			into.values[f.Key] = f.Value
		}
	}
}

func (m model) points(q telemetry.Query) []telemetry.Point {
	var list []telemetry.Point
	for _, s := range slices.SortedStableFunc(slices.Values(m[q.Device]), func(a, b *stored) int { return cmp.Compare(a.ts, b.ts) }) {
		if v, ok := s.values[q.Keys[0]]; ok && q.Start <= s.ts && s.ts < q.End {
			list = append(list, telemetry.Point{TS: s.ts, Value: v})
		}
	}
	if q.Order != "ASC" {
		slices.Reverse(list)
	}
	for i := q.Limit; i < len(list); i++ {
		if list[i].TS != list[i-1].TS {
			return list[:i]
		}
	}
	return list
}

func genMessages(t *rapid.T) []payload.Message {
	value := rapid.OneOf(
		rapid.Map(rapid.Int64(), payload.Long),
		rapid.Map(rapid.Float64(), payload.Double),
		rapid.Map(rapid.Bool(), payload.Bool),
		rapid.Map(rapid.String(), payload.Text),
	)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) payload.Message {
		values := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), value, 1, 3).Draw(t, "values")
		m := message(rapid.Int64Range(0, 20).Draw(t, "ts"))
		m.Arrived = rapid.Bool().Draw(t, "arrived")
		for _, key := range slices.Sorted(maps.Keys(values)) {
			m.Fields = append(m.Fields, payload.Field{Key: key, Value: values[key]})
		}
		return m
	}), 1, 4).Draw(t, "messages")
}

// checkModel appends messages and reopens the store at random, and compares random queries with the
// model.
func checkModel(t *testing.T, s Suite) {
	rapid.Check(t, func(rt *rapid.T) {
		f, m := s.open(t, 0), model{}
		device := rapid.SampledFrom([]string{"d1", "d2"})
		key := rapid.SampledFrom([]string{"a", "b", "c"})
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				d, list := device.Draw(rt, "device"), genMessages(rt)
				if err := f.Store.Append(t.Context(), d, list); err != nil {
					rt.Fatal(err)
				}
				m.append(d, list)
			},
			"reopen": func(rt *rapid.T) {
				if rapid.IntRange(0, 3).Draw(rt, "seldom") > 0 {
					rt.SkipNow()
				}
				f.reopen()
			},
			"range": func(rt *rapid.T) {
				q := telemetry.Query{
					Device: device.Draw(rt, "device"), Keys: []string{key.Draw(rt, "key")},
					Start: rapid.Int64Range(-1, 21).Draw(rt, "start"), Limit: rapid.IntRange(1, 9).Draw(rt, "limit"),
					Order: rapid.SampledFrom([]string{"ASC", "DESC", ""}).Draw(rt, "order"),
				}
				q.End = rapid.Int64Range(q.Start, 22).Draw(rt, "end")
				got, err := telemetry.Points(t.Context(), f.Store, q)
				if want := m.points(q); err != nil || !slices.Equal(got[q.Keys[0]], want) {
					rt.Fatalf("%+v:\n got %v, error %v\nwant %v", q, got, err, want)
				}
			},
			"latest": func(rt *rapid.T) {
				d, k := device.Draw(rt, "device"), key.Draw(rt, "key")
				got, err := telemetry.Latest(t.Context(), f.Store, d, k)
				want := m.points(telemetry.Query{Device: d, Keys: []string{k}, End: 100, Limit: 1})
				if err != nil || len(got) != min(len(want), 1) || len(want) > 0 && got[k] != want[0] {
					rt.Fatalf("latest %s of %s:\n got %v, error %v\nwant %v", k, d, got, err, want)
				}
			},
		})
		if err := f.Store.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}
