package telemetry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// messageList is a Reader that returns these messages for every range.
type messageList struct {
	Reader
	messages []payload.Message
}

func (l messageList) Latest(_ context.Context, _ string, keys ...string) iter.Seq2[KeyPoint, error] {
	return func(yield func(KeyPoint, error) bool) {
		for _, key := range keys {
			if !yield(KeyPoint{Key: key}, nil) {
				return
			}
		}
	}
}

func (l messageList) Messages(context.Context, Range) iter.Seq2[payload.Message, error] {
	return func(yield func(payload.Message, error) bool) {
		for _, m := range l.messages {
			if !yield(m, nil) {
				return
			}
		}
	}
}

func TestSumBeyondADouble(t *testing.T) {
	field := func(key string, f float64) payload.Field { return payload.Field{Key: key, Value: payload.Double(f)} }
	l := messageList{messages: []payload.Message{
		{TS: 1, Fields: []payload.Field{field("a", 1.5e308), field("b", 1.5e308)}},
		{TS: 2, Fields: []payload.Field{field("a", 1.5e308), field("b", -1.5e308)}},
	}}
	for aggregate, want := range map[string]string{
		"SUM": "map[b:[{5 0.0}]]", "AVG": "map[b:[{5 0.0}]]", "COUNT": "map[a:[{5 2}] b:[{5 2}]]",
		"MAX": "map[a:[{5 1.5e+308}] b:[{5 1.5e+308}]]",
	} {
		points, err := Points(t.Context(), l, Query{Device: "d", Keys: []string{"a", "b"}, End: 10, Aggregate: aggregate, Interval: 10})
		if got := fmt.Sprint(points); err != nil || got != want {
			t.Errorf("%s: got %s, error %v, want %s", aggregate, got, err, want)
		}
	}
}

func TestQueryIsRefused(t *testing.T) {
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
		if _, err := Points(t.Context(), messageList{}, q); !errors.Is(err, ErrQuery) || errors.Is(err, ErrStore) {
			t.Errorf("%s: error %v, want ErrQuery", name, err)
		}
	}
	q := Query{Device: "d", Keys: []string{"a"}, End: 7000, Aggregate: "SUM", Interval: 10}
	if points, err := Points(t.Context(), messageList{}, q); err != nil || len(points) != 0 {
		t.Errorf("700 intervals: %v, error %v", points, err)
	}
}

// endless is a Reader with the key a, which always has another message after some time.
type endless struct {
	messageList
	pause time.Duration
}

func (e endless) Messages(context.Context, Range) iter.Seq2[payload.Message, error] {
	m := payload.Message{TS: 1, Fields: []payload.Field{{Key: "b", Value: payload.Long(1)}}}
	return func(yield func(payload.Message, error) bool) {
		for range 10 * MaxVisited {
			if e.pause > 0 {
				time.Sleep(e.pause)
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// TestQuestionThatIsTooWide is refused once it has visited many messages or has taken long, and the
// error says how to narrow it.
func TestQuestionThatIsTooWide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, pause := range []time.Duration{0, 600 * time.Microsecond} {
			for _, aggregate := range []string{"NONE", "AVG"} {
				start := time.Now()
				_, err := Points(t.Context(), endless{pause: pause}, Query{Device: "d", Keys: []string{"a"}, End: 10, Aggregate: aggregate, Interval: 10})
				if !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), "a shorter span") {
					t.Errorf("%s, pause %v: error %v, want ErrQuery", aggregate, pause, err)
				}
				if d := time.Since(start); pause > 0 && (d < VisitTime || d > 2*VisitTime) {
					t.Errorf("%s: refused after %v", aggregate, d)
				}
			}
		}
	})
}

// TestSlowStoreDoesNotMakeAQuestionTooWide: to ask for less would not help.
func TestSlowStoreDoesNotMakeAQuestionTooWide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := slowList{messageList{messages: []payload.Message{{TS: 1, Fields: []payload.Field{{Key: "a", Value: payload.Long(1)}}}}}}
		points, err := Points(t.Context(), l, Query{Device: "d", Keys: []string{"a"}, End: 10})
		if err != nil || len(points["a"]) != 1 {
			t.Errorf("points %v, error %v", points, err)
		}
	})
}

// slowList takes longer than a question may take.
type slowList struct{ messageList }

func (l slowList) Messages(ctx context.Context, r Range) iter.Seq2[payload.Message, error] {
	time.Sleep(2 * VisitTime)
	return l.messageList.Messages(ctx, r)
}
