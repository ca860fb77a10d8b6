package postgres

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

const (
	// lockRows returns all rows of some times and locks them, in the order in which other stores
	// do.
	lockRows = `SELECT ts, n, data FROM mqtt_auth_proxy.telemetry
		WHERE device = $1 AND ts = ANY ($2) ORDER BY ts, n FOR UPDATE`
	deleteRows = `DELETE FROM mqtt_auth_proxy.telemetry WHERE device = $1 AND ts = ANY ($2)`
	lockLatest = `SELECT key, ts FROM mqtt_auth_proxy.latest
		WHERE device = $1 AND key = ANY ($2) ORDER BY key FOR UPDATE`
	setLatest = `UPDATE mqtt_auth_proxy.latest AS l SET ts = r.ts, value = r.value
		FROM unnest($2::text[], $3::bigint[], $4::text[]) AS r (key, ts, value)
		WHERE l.device = $1 AND l.key = r.key`
	deleteLatest = `DELETE FROM mqtt_auth_proxy.latest WHERE device = $1 AND key = ANY ($2)`
)

// ofOtherTables reports whether a request does more than to add messages.
func (r *request) ofOtherTables() bool { return r.ofAttributes() || len(r.emptied)+len(r.renewed) > 0 }

// deletions does what a group deletes of telemetry.
func (t *transaction) deletions(ctx context.Context, group []*request, p *plan) error {
	for _, r := range group {
		var err error
		switch {
		case len(r.emptied) > 0:
			err = t.deleteValues(ctx, r, p)
		case len(r.renewed) > 0:
			err = t.replaceLatest(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteValues deletes the values of keys in the rows of some times. Unless all rows of a time are
// empty then, empty ones stay, because the next message might otherwise come before the others.
func (t *transaction) deleteValues(ctx context.Context, r *request, p *plan) error {
	doomed := make(map[string]bool, len(r.emptied))
	for _, key := range r.emptied {
		doomed[key] = true
	}
	rows, err := t.rowsAt(ctx, lockRows, r.device, r.times)
	if err != nil {
		return err
	}
	var (
		updates arrays
		empty   []int64
	)
	for _, ts := range r.times {
		left := 0
		var changed []stored
		for _, row := range rows[ts] {
			fields, err := decode(row.data)
			if err != nil {
				return err
			}
			rest := slices.DeleteFunc(fields, func(f payload.Field) bool { return doomed[f.Key] })
			left += len(rest)
			if data := string(payload.AppendObject(nil, rest)); data != row.data {
				changed = append(changed, stored{n: row.n, data: data, size: int64(len(row.data))})
			}
		}
		at := place{r.device, ts}
		if left == 0 {
			empty = append(empty, ts)
			for _, row := range rows[ts] {
				p.grow(at, -telemetry.MessageBytes(row.data))
			}
			continue
		}
		for _, row := range changed {
			updates.add(at, row)
			p.grow(at, int64(len(row.data))-row.size)
		}
	}
	return t.send(ctx, func(b *pgx.Batch) {
		b.Queue(updateRows, updates.devices, updates.times, updates.numbers, updates.data)
		b.Queue(deleteRows, r.device, empty)
	})
}

// rowsAt returns the rows that a statement finds, by their time.
func (t *transaction) rowsAt(ctx context.Context, statement, device string, times []int64) (map[int64][]stored, error) {
	found := make(map[int64][]stored)
	err := t.send(ctx, func(b *pgx.Batch) {
		b.Queue(statement, device, times).Query(func(rows pgx.Rows) error {
			var (
				ts int64
				s  stored
			)
			_, err := pgx.ForEachRow(rows, []any{&ts, &s.n, &s.data}, func() error {
				found[ts] = append(found[ts], s)
				return nil
			})
			return err
		})
	})
	return found, err
}

// replaceLatest replaces newest values whose messages were deleted. The table latest is up to date
// with what this store has stored.
func (t *transaction) replaceLatest(ctx context.Context, r *request) error {
	var keys []string
	for _, p := range r.renewed {
		keys = append(keys, p.Key)
	}
	times := make(map[string]int64) // of the newest values in the span
	err := t.send(ctx, func(b *pgx.Batch) {
		b.Queue(lockLatest, r.device, storable(keys)).Query(func(rows pgx.Rows) error {
			var (
				key string
				ts  int64
			)
			_, err := pgx.ForEachRow(rows, []any{&key, &ts}, func() error {
				if r.span.Contains(ts) {
					times[key] = ts
				}
				return nil
			})
			return err
		})
	})
	if err != nil {
		return err
	}
	left, err := t.keysAt(ctx, r.device, times)
	if err != nil {
		return err
	}
	var (
		set, gone, values []string
		at                []int64
	)
	for _, p := range r.renewed {
		ts, stale := times[p.Key]
		switch {
		case !stale || left[keyAt{p.Key, ts}]:
		case p.Value.Kind() == 0 && p.TS == math.MinInt64:
			gone = append(gone, p.Key)
		default:
			// The JSON text null stands for no newest value.
			set, at, values = append(set, p.Key), append(at, p.TS), append(values, string(p.Value.AppendJSON(nil)))
		}
	}
	return t.send(ctx, func(b *pgx.Batch) {
		b.Queue(setLatest, r.device, set, at, values)
		b.Queue(deleteLatest, r.device, gone)
	})
}

// keyAt is a key at a time.
type keyAt struct {
	key string
	ts  int64
}

// keysAt returns which keys messages have at the times that are given for some keys.
func (t *transaction) keysAt(ctx context.Context, device string, times map[string]int64) (map[keyAt]bool, error) {
	rows, err := t.rowsAt(ctx, lockRows, device, slices.Collect(maps.Values(times)))
	if err != nil {
		return nil, err
	}
	keys := make(map[keyAt]bool)
	for ts, list := range rows {
		for _, row := range list {
			fields, err := decode(row.data)
			if err != nil {
				return nil, err
			}
			for _, f := range fields {
				keys[keyAt{f.Key, ts}] = true
			}
		}
	}
	return keys, nil
}
