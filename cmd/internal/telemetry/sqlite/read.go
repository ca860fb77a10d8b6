package sqlite

import (
	"context"
	"database/sql"
	"iter"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// pageRows is how many messages one read takes. While a read runs SQLite cannot empty its
// log, so long ones are cut into many.
const pageRows = 512

// Keys implements [telemetry.Reader].
func (s *Store) Keys(ctx context.Context, device string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s.recent.Of(device).MergeKeys(func(yield func(string, error) bool) {
			for rows, err := range s.query(ctx, `SELECT key FROM latest WHERE device = ? AND value <> 'null'`, device) {
				var key string
				if err == nil {
					err = s.explain(rows.Scan(&key))
				}
				if !yield(key, err) || err != nil {
					return
				}
			}
		})(yield)
	}
}

// Latest implements [telemetry.Reader].
func (s *Store) Latest(ctx context.Context, device string, keys ...string) iter.Seq2[telemetry.KeyPoint, error] {
	return func(yield func(telemetry.KeyPoint, error) bool) {
		table := s.keyPoints(ctx, `SELECT key, ts, value FROM latest WHERE device = ?`, device)
		if len(keys) > 0 {
			table = s.ofKeys(ctx, "latest", device, keys)
		}
		s.recent.Of(device).Merge(table, keys...)(yield)
	}
}

// ofKeys returns what a table of keys has of some of them. A query takes many at once, because
// readers wait between queries.
func (s *Store) ofKeys(ctx context.Context, table, device string, keys []string) iter.Seq2[telemetry.KeyPoint, error] {
	return func(yield func(telemetry.KeyPoint, error) bool) {
		for part := range slices.Chunk(keys, pageRows) {
			args := []any{device}
			for _, key := range part {
				args = append(args, key)
			}
			query := `SELECT key, ts, value FROM ` + table + ` WHERE device = ? AND key IN (?` + strings.Repeat(",?", len(part)-1) + `)`
			for p, err := range s.keyPoints(ctx, query, args...) {
				if !yield(p, err) || err != nil {
					return
				}
			}
		}
	}
}

// Attributes implements [telemetry.Reader].
func (s *Store) Attributes(ctx context.Context, device string, scope telemetry.Scope, keys ...string) iter.Seq2[telemetry.KeyPoint, error] {
	if len(keys) > 0 {
		return s.ofKeys(ctx, attributeTable(scope), device, keys)
	}
	return s.keyPoints(ctx, `SELECT key, ts, value FROM `+attributeTable(scope)+` WHERE device = ?`, device)
}

// Messages implements [telemetry.Reader].
func (s *Store) Messages(ctx context.Context, r telemetry.Range) iter.Seq2[payload.Message, error] {
	return func(yield func(payload.Message, error) bool) {
		// The numbers of messages begin with 0.
		query, next, bound := pageAscending, place{r.Start, -1}, r.End
		if r.Descending {
			query, next, bound = pageDescending, place{r.End, 0}, r.Start
		}
		for seen := pageRows; seen == pageRows; {
			seen = 0
			for rows, err := range s.query(ctx, query, r.Device, next.ts, next.n, bound, pageRows) {
				var m payload.Message
				if err == nil {
					m, err = s.scanMessage(rows, &next)
				}
				if !yield(m, err) || err != nil {
					return
				}
				seen++
			}
		}
	}
}

// place is where a message stands among those of its device.
type place struct{ ts, n int64 }

// The next page of messages after a place, in each order.
const (
	pageAscending = `SELECT ts, n, data FROM telemetry
		WHERE device = ? AND (ts, n) > (?, ?) AND ts < ? ORDER BY ts, n LIMIT ?`
	pageDescending = `SELECT ts, n, data FROM telemetry
		WHERE device = ? AND (ts, n) < (?, ?) AND ts >= ? ORDER BY ts DESC, n DESC LIMIT ?`
)

// scanMessage reads the message of a row and sets at to its place.
func (s *Store) scanMessage(rows *sql.Rows, at *place) (m payload.Message, err error) {
	var data string
	if err := rows.Scan(&at.ts, &at.n, &data); err != nil {
		return m, s.explain(err)
	}
	m.TS = at.ts
	if m.Fields, err = payload.DecodeObject(data); err != nil {
		return m, s.explain(damaged(err))
	}
	return m, nil
}

// keyPoints returns the key, ts and value of each row.
func (s *Store) keyPoints(ctx context.Context, query string, args ...any) iter.Seq2[telemetry.KeyPoint, error] {
	return func(yield func(telemetry.KeyPoint, error) bool) {
		for rows, err := range s.query(ctx, query, args...) {
			var p telemetry.KeyPoint
			if err == nil {
				p, err = s.scanKeyPoint(rows)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

func (s *Store) scanKeyPoint(rows *sql.Rows) (p telemetry.KeyPoint, err error) {
	var value string
	if err := rows.Scan(&p.Key, &p.TS, &value); err != nil {
		return p, s.explain(err)
	}
	if p.Value, err = payload.DecodeValue(value); err != nil {
		return p, s.explain(damaged(err))
	}
	return p, nil
}

// query returns rows, each to be scanned before the next, or one error.
func (s *Store) query(ctx context.Context, query string, args ...any) iter.Seq2[*sql.Rows, error] {
	return func(yield func(*sql.Rows, error) bool) {
		done, err := s.turns.acquire(ctx, s.busy())
		if err != nil {
			yield(nil, s.explain(err))
			return
		}
		defer done()
		rows, err := s.readers.QueryContext(ctx, query, args...)
		if err != nil {
			yield(nil, s.explain(err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			if !yield(rows, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, s.explain(err))
		}
	}
}
