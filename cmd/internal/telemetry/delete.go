package telemetry

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	// deletionTime is how long one deletion may take. It is less than an HTTP answer may take.
	deletionTime = 50 * time.Second
	// A store is asked to delete in this many messages, or in messages of about this many bytes,
	// at once, so that devices wait only for milliseconds.
	deletedTimes = 500
	deletedBytes = 1 << 20
	// renewedKeys is how many newest values a store is asked to replace at once. It may have to
	// read as many messages.
	renewedKeys = 20
)

// Deletion says which values of a device are deleted.
type Deletion struct {
	Device string
	// Keys are the keys whose values are deleted, at least one and at most [MaxKeys].
	Keys []string
	// Start and End are in milliseconds since 1970-01-01 UTC. Start belongs to the span. End does
	// not, unless it is the last time that there is.
	Start, End int64
	// KeepLatest leaves the newest values as they are. Otherwise a newest value whose time is in
	// the span is deleted as well.
	KeepLatest bool
	// RewriteLatest makes the newest value that is left the newest value of its key. Otherwise a
	// key without a newest value gets one from the next message.
	RewriteLatest bool
}

func (d *Deletion) check() error {
	switch {
	case len(d.Keys) == 0:
		return fmt.Errorf("%w: no keys", ErrQuery)
	case len(d.Keys) > MaxKeys:
		return fmt.Errorf("%w: more than %d keys", ErrQuery, MaxKeys)
	case d.End < d.Start:
		return fmt.Errorf("%w: the end is before the start", ErrQuery)
	}
	return nil
}

// contains reports whether a time is in the span.
func (d *Deletion) contains(ts int64) bool {
	return Range{Start: d.Start, End: d.End}.Contains(ts)
}

// DeleteTelemetry deletes values of a device. An error wraps [ErrQuery] if the deletion makes no
// sense, and otherwise a part may be deleted. The same call can be made again, and has to be if ctx
// ends or the deletion takes longer than 50 seconds. A value that arrives meanwhile, with a time in
// the span, may be deleted or not.
func (s *Changes) DeleteTelemetry(ctx context.Context, d Deletion) error {
	if err := d.check(); err != nil {
		return err
	}
	s.init()
	if err := s.deleting.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.deleting.Release(1)
	// A requester that leaves must not keep the newest values from being set.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deletionTime)
	defer cancel()
	messages, err := d.run(ctx, s.Store)
	outcome := fmt.Sprintf("%d keys in %d messages", len(d.Keys), messages)
	if err != nil {
		outcome += ", failed: " + err.Error()
	}
	s.Record(ctx, "delete telemetry", d.Device, outcome)
	return err
}

// run deletes the values and returns in how many messages.
func (d *Deletion) run(ctx context.Context, store Store) (messages int, err error) {
	wanted := make(map[string]bool, len(d.Keys))
	for _, key := range d.Keys {
		wanted[key] = true
	}
	for start, more := d.Start, true; more; {
		var (
			times []int64
			n     int
		)
		if times, n, more, err = d.find(ctx, store, start, wanted); err != nil {
			return messages, err
		}
		if len(times) > 0 {
			if err := store.DeleteValues(ctx, d.Device, d.Keys, times); err != nil {
				return messages, err
			}
			messages += n
			start = times[len(times)-1] + 1
		}
	}
	if d.KeepLatest {
		return messages, nil
	}
	return messages, d.renew(ctx, store)
}

// find returns the times of the next messages from start on that have one of the keys, each once,
// how many messages these are, and whether there may be more.
func (d *Deletion) find(ctx context.Context, store Reader, start int64, wanted map[string]bool) (times []int64, n int, more bool, err error) {
	bytes := 0
	for m, err := range store.Messages(ctx, Range{Device: d.Device, Start: start, End: d.End}) {
		if err != nil {
			return nil, 0, false, err
		}
		found, size := false, 0
		for _, f := range m.Fields {
			found = found || wanted[f.Key]
			size += len(f.Key) + f.Value.TextSize()
		}
		if !found {
			continue
		}
		if len(times) == 0 || times[len(times)-1] != m.TS {
			if len(times) >= deletedTimes || bytes >= deletedBytes {
				return times, n, true, nil
			}
			times = append(times, m.TS)
		}
		n++
		bytes += size
	}
	if d.End == math.MaxInt64 { // which no range of messages includes
		times = append(times, math.MaxInt64)
	}
	return times, n, false, nil
}

// renew deletes the newest values that are in the span, and sets those that are the newest now.
func (d *Deletion) renew(ctx context.Context, store Store) error {
	missing := make(map[string]bool)
	for p, err := range store.Latest(ctx, d.Device, d.Keys...) {
		if err != nil {
			return err
		}
		if d.contains(p.TS) {
			missing[p.Key] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	points, err := d.newest(ctx, store, missing)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(points, renewedKeys) {
		if err := store.ReplaceLatest(ctx, Range{Device: d.Device, Start: d.Start, End: d.End}, some); err != nil {
			return err
		}
	}
	return nil
}

// newest returns the newest points before the span of the keys in missing, and removes those from
// it that it has found. Of a key without any it returns one at the first time that there is, or at
// the last one that it has not looked at.
func (d *Deletion) newest(ctx context.Context, store Reader, missing map[string]bool) ([]KeyPoint, error) {
	var (
		points []KeyPoint
		seen   visited
		bound  int64 = math.MinInt64
	)
	for m, err := range store.Messages(ctx, Range{Device: d.Device, Start: math.MinInt64, End: d.Start, Descending: true}) {
		if err != nil {
			return nil, err
		}
		if seen.tooMany() {
			bound = m.TS
			break
		}
		for _, f := range m.Fields {
			if !missing[f.Key] {
				continue
			}
			delete(missing, f.Key)
			p := KeyPoint{f.Key, Point{TS: m.TS}}
			if d.RewriteLatest {
				p.Value = f.Value.Clone()
			}
			points = append(points, p)
		}
		if len(missing) == 0 {
			break
		}
	}
	for key := range missing {
		points = append(points, KeyPoint{key, Point{TS: bound}})
	}
	return points, nil
}
