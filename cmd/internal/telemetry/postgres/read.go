package postgres

import (
	"context"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/recent"
)

const (
	// pageRows is how many messages one query takes. A long transaction would keep PostgreSQL
	// from cleaning up.
	pageRows = 512
	// readTime bounds one query.
	readTime = 35 * time.Second
)

// beginReading begins a transaction that reads. The server ends queries that take long.
var beginReading = pgx.TxOptions{BeginQuery: "BEGIN READ ONLY; SET LOCAL statement_timeout = 30000"}

// oldest returns the time before which messages are not shown, because retention deletes them
// only with their partition.
func (s *Store) oldest() int64 {
	if now := s.now(); s.opts.Retention > 0 && telemetry.ClockIsSet(now) {
		return now.Add(-s.opts.Retention).UnixMilli()
	}
	return -1 << 63
}

// recent returns the newest values of a device that are not yet in the table.
func (s *Store) recent(device string) recent.Points {
	points := s.workerOf(device).recent.Of(device)
	for key, p := range points {
		if p.TS < s.oldest() {
			delete(points, key)
		}
	}
	return points
}

// Keys implements [telemetry.Reader].
func (s *Store) Keys(ctx context.Context, device string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s.recent(device).MergeKeys(func(yield func(string, error) bool) {
			for rows, err := range s.query(ctx, `SELECT key FROM mqtt_auth_proxy.latest
				WHERE device = $1 AND ts >= $2 AND value <> 'null'`, device, s.oldest()) {
				var key string
				if err == nil {
					err = explain(rows.Scan(&key))
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
		table := s.keyPoints(ctx, `SELECT key, ts, value FROM mqtt_auth_proxy.latest
			WHERE device = $1 AND ts >= $2 AND ($3::text[] IS NULL OR key = ANY ($3))`, device, s.oldest(), listOrNull(keys))
		s.recent(device).Merge(table, keys...)(yield)
	}
}

// Attributes implements [telemetry.Reader].
func (s *Store) Attributes(ctx context.Context, device string, scope telemetry.Scope, keys ...string) iter.Seq2[telemetry.KeyPoint, error] {
	return s.keyPoints(ctx, `SELECT key, ts, value FROM `+attributeTable(scope)+`
		WHERE device = $1 AND ($2::text[] IS NULL OR key = ANY ($2))`, device, listOrNull(keys))
}

// attributeTable returns the table of a scope.
func attributeTable(scope telemetry.Scope) string {
	if scope == telemetry.SharedScope {
		return "mqtt_auth_proxy.shared_attributes"
	}
	return "mqtt_auth_proxy.attributes"
}

// listOrNull returns nil, which is NULL, for an empty list, and otherwise the keys that there can
// be.
func listOrNull(keys []string) []string {
	if len(keys) == 0 {
		return nil
	}
	return storable(keys)
}

// Messages implements [telemetry.Reader].
func (s *Store) Messages(ctx context.Context, r telemetry.Range) iter.Seq2[payload.Message, error] {
	return func(yield func(payload.Message, error) bool) {
		r.Start = max(r.Start, s.oldest())
		// The numbers of messages begin with 0.
		query, next, bound := pageAscending, at{r.Start, -1}, r.End
		if r.Descending {
			query, next, bound = pageDescending, at{r.End, 0}, r.Start
		}
		for seen := pageRows; seen == pageRows; {
			seen = 0
			for rows, err := range s.query(ctx, query, r.Device, next.ts, next.n, bound, pageRows) {
				var m payload.Message
				if err == nil {
					m, err = scanMessage(rows, &next)
				}
				if !yield(m, err) || err != nil {
					return
				}
				seen++
			}
		}
	}
}

// at is the position of a message among those of its device.
type at struct {
	ts int64
	n  int32
}

// The next page of messages after a place, in each order. Conditions on ts alone let PostgreSQL
// leave out partitions.
const (
	pageAscending = `SELECT ts, n, data FROM mqtt_auth_proxy.telemetry
		WHERE device = $1 AND ts >= $2 AND (ts, n) > ($2, $3) AND ts < $4 ORDER BY ts, n LIMIT $5`
	pageDescending = `SELECT ts, n, data FROM mqtt_auth_proxy.telemetry
		WHERE device = $1 AND ts <= $2 AND (ts, n) < ($2, $3) AND ts >= $4 ORDER BY ts DESC, n DESC LIMIT $5`
)

// scanMessage reads the message of a row and sets place to where it stands.
func scanMessage(rows pgx.Rows, place *at) (m payload.Message, err error) {
	var data string
	if err := rows.Scan(&place.ts, &place.n, &data); err != nil {
		return m, explain(err)
	}
	m.TS = place.ts
	m.Fields, err = decode(data)
	return m, err
}

// keyPoints returns the key, ts and value of each row.
func (s *Store) keyPoints(ctx context.Context, query string, args ...any) iter.Seq2[telemetry.KeyPoint, error] {
	return func(yield func(telemetry.KeyPoint, error) bool) {
		for rows, err := range s.query(ctx, query, args...) {
			var p telemetry.KeyPoint
			if err == nil {
				p, err = scanKeyPoint(rows)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

func scanKeyPoint(rows pgx.Rows) (p telemetry.KeyPoint, err error) {
	var value string
	if err := rows.Scan(&p.Key, &p.TS, &value); err != nil {
		return p, explain(err)
	}
	if p.Value, err = payload.DecodeValue(value); err != nil {
		return p, damaged(err)
	}
	return p, nil
}

// query returns rows, each to be scanned before the next, or one error.
func (s *Store) query(ctx context.Context, query string, args ...any) iter.Seq2[pgx.Rows, error] {
	return func(yield func(pgx.Rows, error) bool) {
		if s.closing.Err() != nil {
			yield(nil, errClosed)
			return
		}
		ctx, cancel := context.WithTimeout(ctx, readTime)
		defer cancel()
		more := true
		err := transact(ctx, s.readers, beginReading, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, query, args...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for more && rows.Next() {
				more = yield(rows, nil)
			}
			rows.Close()
			return rows.Err()
		})
		if err != nil && more {
			yield(nil, explain(err))
		}
	}
}
