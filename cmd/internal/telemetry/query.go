package telemetry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// ErrQuery is wrapped by errors that are caused by the query and not by the store.
var ErrQuery = errors.New("telemetry query")

const (
	defaultLimit = 100
	// maxPoints is the maximum number of points in one answer, for all keys together.
	maxPoints = 200_000
	// maxIntervals is the limit of ThingsBoard.
	maxIntervals = 700
)

// Query asks for the values of one device in a span of time.
type Query struct {
	Device string
	// Keys are the keys to be answered, at least one.
	Keys []string
	// Start and End are in milliseconds since 1970-01-01 UTC. Start belongs to the span, End
	// does not.
	Start, End int64
	// Limit is the most points for each key; 0 means 100. Keys times Limit may not exceed 200,000.
	// Aggregates have no limit. The points of one time stay together, even beyond the limit, so
	// that a reader misses nothing when it continues with the time of the last point as End or, in
	// ascending order, with the millisecond after it as Start.
	Limit int
	// Order is "ASC", the oldest first, or "DESC". Empty means DESC, and ASC for aggregates.
	// Points of one time are in the order of their arrival, or in its reverse.
	Order string
	// Aggregate is "MIN", "MAX", "AVG", "SUM" or "COUNT"; empty and "NONE" mean the points as
	// they are.
	//
	// MIN and MAX are those of the numbers or, if there is none, of the strings in the order
	// of their bytes. SUM and AVG are of numbers: a sum of longs is a long if it fits, an
	// average is always a double. COUNT counts values of any type. An interval has no point if
	// it has no such values, or if its sum does not fit a double.
	Aggregate string
	// Interval is the length of the time of one aggregate in milliseconds; 0 means no
	// aggregation. More than 700 intervals are an error. The first begins at Start, the last
	// ends at End; a point has the time in the middle.
	Interval int64
}

// check sets the defaults and returns an error if the query cannot be answered.
func (q *Query) check() error {
	switch q.Aggregate {
	case "":
		q.Aggregate = "NONE"
	case "NONE", "MIN", "MAX", "AVG", "SUM", "COUNT":
	default:
		return fmt.Errorf("%w: aggregation is not NONE, MIN, MAX, AVG, SUM or COUNT", ErrQuery)
	}
	if q.Interval == 0 {
		q.Aggregate = "NONE"
	}
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	switch {
	case len(q.Keys) == 0:
		return fmt.Errorf("%w: no keys", ErrQuery)
	case q.End < q.Start:
		return fmt.Errorf("%w: the end is before the start", ErrQuery)
	case q.Order != "" && q.Order != "ASC" && q.Order != "DESC":
		return fmt.Errorf("%w: order is neither ASC nor DESC", ErrQuery)
	case q.Interval < 0:
		return fmt.Errorf("%w: interval is negative", ErrQuery)
	case q.Limit < 0 || q.Limit > maxPoints/len(q.Keys):
		return fmt.Errorf("%w: limit is negative or more than %d for all keys together", ErrQuery, maxPoints)
	case q.Aggregate != "NONE" && (q.intervals() > maxIntervals || len(q.Keys) > maxPoints/maxIntervals):
		return fmt.Errorf("%w: more than %d intervals or %d keys", ErrQuery, maxIntervals, maxPoints/maxIntervals)
	}
	return nil
}

// intervals returns the number of intervals. The arithmetic is unsigned because the difference
// of two int64 needs 64 bits.
func (q *Query) intervals() uint64 {
	span, step := uint64(q.End)-uint64(q.Start), uint64(q.Interval)
	n := span / step
	if span%step > 0 {
		n++
	}
	return n
}

// Points returns the points that q asks for, by key. Keys without points are missing. An error
// wraps [ErrQuery] if the query is at fault, the answer would be larger than 16 MiB, or the query
// would visit more than [MaxVisited] messages or take longer than [VisitTime].
func Points(ctx context.Context, store Reader, q Query) (map[string][]Point, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	// A key that the device does not have is in none of its messages, however many there are.
	known := make(map[string]bool, len(q.Keys))
	for p, err := range store.Latest(ctx, q.Device, q.Keys...) {
		if err != nil {
			return nil, err
		}
		known[p.Key] = true
	}
	switch {
	case len(known) == 0:
		return map[string][]Point{}, nil
	case q.Aggregate == "NONE":
		return q.points(ctx, store, known)
	}
	return q.aggregates(ctx, store, known)
}

// points returns the points of the keys in wanted, from which it removes keys.
func (q *Query) points(ctx context.Context, store Reader, wanted map[string]bool) (map[string][]Point, error) {
	points := make(map[string][]Point, len(wanted))
	var seen visited
	var full []string // keys that reached the limit at the time ts
	var ts int64
	left := budget(answerBytes)
	for m, err := range store.Messages(ctx, Range{q.Device, q.Start, q.End, q.Order != "ASC"}) {
		if err == nil && seen.tooMany() {
			err = errTooWide
		}
		if err != nil {
			return nil, err
		}
		if m.TS != ts {
			for _, key := range full {
				delete(wanted, key)
			}
			ts, full = m.TS, nil
		}
		for _, f := range m.Fields {
			if !wanted[f.Key] {
				continue
			}
			v, err := left.clone(f.Value)
			if err != nil {
				return nil, err
			}
			points[f.Key] = append(points[f.Key], Point{m.TS, v})
			if len(points[f.Key]) == q.Limit {
				full = append(full, f.Key)
			}
		}
		if len(wanted) == 0 {
			break
		}
	}
	return points, nil
}

func (q *Query) aggregates(ctx context.Context, store Reader, keys map[string]bool) (map[string][]Point, error) {
	intervals := make(map[string][]aggregate, len(keys))
	for key := range keys {
		intervals[key] = make([]aggregate, q.intervals())
	}
	var seen visited
	left := budget(answerBytes)
	for m, err := range store.Messages(ctx, Range{q.Device, q.Start, q.End, false}) {
		if err == nil && seen.tooMany() {
			err = errTooWide
		}
		if err != nil {
			return nil, err
		}
		i := (uint64(m.TS) - uint64(q.Start)) / uint64(q.Interval)
		for _, f := range m.Fields {
			list, ok := intervals[f.Key]
			if !ok {
				continue
			}
			before := list[i].best.TextSize()
			list[i].add(q.Aggregate, f.Value)
			if err := left.spend(list[i].best.TextSize() - before); err != nil {
				return nil, err
			}
		}
	}
	points := make(map[string][]Point, len(keys))
	for key, list := range intervals {
		for i := range list {
			if v, ok := list[i].result(q.Aggregate); ok {
				points[key] = append(points[key], Point{q.middle(uint64(i)), v})
			}
		}
		if q.Order == "DESC" {
			slices.Reverse(points[key])
		}
	}
	return points, nil
}

// middle returns the time in the middle of interval i.
func (q *Query) middle(i uint64) int64 {
	start := uint64(q.Start) + i*uint64(q.Interval)
	length := min(uint64(q.Interval), uint64(q.End)-start)
	return int64(start + length/2)
}

// Latest returns the newest value of each of the keys, or of all if none is given. Keys
// that the device does not have are missing. Errors are those of [Points].
func Latest(ctx context.Context, store Reader, device string, keys ...string) (map[string]Point, error) {
	if len(keys) > MaxKeys {
		return nil, fmt.Errorf("%w: more than %d keys", ErrQuery, MaxKeys)
	}
	list, err := collect(store.Latest(ctx, device, keys...))
	if err != nil {
		return nil, err
	}
	points := make(map[string]Point, len(list))
	for _, p := range list {
		if p.Value.Kind() != 0 {
			points[p.Key] = p.Point
		}
	}
	return points, nil
}

// Attributes returns the attributes of the keys in a scope, or all if none is given, sorted by
// key. Keys that the device does not have are missing. Errors are those of [Points].
func Attributes(ctx context.Context, store Reader, device string, scope Scope, keys ...string) ([]KeyPoint, error) {
	list, err := collect(store.Attributes(ctx, device, scope, keys...))
	slices.SortFunc(list, func(a, b KeyPoint) int { return strings.Compare(a.Key, b.Key) })
	return list, err
}

// Keys returns the telemetry keys of the device, sorted. Errors are those of [Points].
func Keys(ctx context.Context, store Reader, device string) ([]string, error) {
	keys := []string{}
	left := budget(answerBytes)
	for key, err := range store.Keys(ctx, device) {
		if err == nil {
			err = left.spend(len(key))
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, nil
}

// collect returns the points of a sequence, unless they are more than one answer may hold.
func collect(points iter.Seq2[KeyPoint, error]) ([]KeyPoint, error) {
	var list []KeyPoint
	left := budget(answerBytes)
	for p, err := range points {
		if err == nil {
			err = left.spend(len(p.Key) + valueBytes + p.Value.TextSize())
		}
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}
