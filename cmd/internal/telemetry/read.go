package telemetry

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// Keys returns the names of what the device has sent, sorted.
func (s *Store) Keys(ctx context.Context, device string) ([]string, error) {
	points, err := s.Latest(ctx, device)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(points)), nil
}

// Latest returns the newest value of each of the keys, or of all if none is
// given. Keys that the device lacks are missing in the result. It sees
// everything whose storing has returned.
func (s *Store) Latest(ctx context.Context, device string, keys ...string) (map[string]Point, error) {
	// Before the table: what leaves recent is in the table by then.
	points := s.recent.of(device)
	if points == nil {
		points = make(map[string]Point)
	}
	if len(keys) == 0 {
		rows, err := s.readers.QueryContext(ctx, `SELECT key, ts, value FROM latest WHERE device = ?`, device)
		if err := addLatest(points, rows, err); err != nil {
			return nil, s.explain(err)
		}
		return points, nil
	}
	asked := make(map[string]Point, len(keys))
	for _, key := range keys {
		if p, ok := points[key]; ok {
			asked[key] = p
		}
		rows, err := s.readers.QueryContext(ctx, `SELECT key, ts, value FROM latest WHERE device = ? AND key = ?`, device, key)
		if err := addLatest(asked, rows, err); err != nil {
			return nil, s.explain(err)
		}
	}
	return asked, nil
}

// addLatest adds the rows that are newer than what points has.
func addLatest(points map[string]Point, rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var (
			p          Point
			key, value string
		)
		if err := rows.Scan(&key, &p.TS, &value); err != nil {
			return err
		}
		if old, ok := points[key]; ok && old.TS >= p.TS {
			return nil
		}
		var err error
		if p.Value, err = payload.DecodeValue(value); err != nil {
			return damaged(err)
		}
		points[key] = p
		return nil
	})
}

// Attribute is a client attribute: what a device last said about itself.
type Attribute struct {
	Key   string
	Value payload.Value
	// Updated is when it was stored, in milliseconds since 1970-01-01 UTC.
	Updated int64
}

// ClientAttributes returns the device's attributes of the keys given, or all
// if none is given, sorted by key. Keys that the device lacks are missing.
func (s *Store) ClientAttributes(ctx context.Context, device string, keys ...string) ([]Attribute, error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT key, ts, value FROM attributes WHERE device = ? ORDER BY key`, device)
	if err != nil {
		return nil, s.explain(err)
	}
	var list []Attribute
	err = eachRow(rows, func() error {
		var (
			a     Attribute
			value string
		)
		if err := rows.Scan(&a.Key, &a.Updated, &value); err != nil {
			return err
		}
		if len(keys) > 0 && !slices.Contains(keys, a.Key) {
			return nil
		}
		var err error
		if a.Value, err = payload.DecodeValue(value); err != nil {
			return damaged(err)
		}
		list = append(list, a)
		return nil
	})
	if err != nil {
		return nil, s.explain(err)
	}
	return list, nil
}
