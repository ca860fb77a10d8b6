package telemetry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// Keys returns the names of what the device has sent, sorted.
func (s *Store) Keys(ctx context.Context, device string) ([]string, error) {
	// Before the table: what leaves recent is in the table by then.
	keys := slices.Collect(maps.Keys(s.recent.of(device)))
	rows, err := s.readers.QueryContext(ctx, `SELECT key FROM latest WHERE device = ?`, device)
	if err != nil {
		return nil, s.explain(err)
	}
	left := budget(answerBytes)
	err = eachRow(rows, func() error {
		var key string
		if err := rows.Scan(&key); err != nil {
			return err
		}
		keys = append(keys, key)
		return left.take(len(key))
	})
	if err != nil {
		return nil, s.asked(err)
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// asked explains an error of the database and leaves one of the question as it is.
func (s *Store) asked(err error) error {
	if errors.Is(err, ErrQuery) {
		return err
	}
	return s.explain(err)
}

// Latest returns the newest value of each of the keys, or of all if none is
// given. Keys that the device lacks are missing in the result. It sees
// everything whose storing has returned. An error wraps [ErrQuery] if the
// question is at fault: the answer would be larger than 16 MiB.
func (s *Store) Latest(ctx context.Context, device string, keys ...string) (map[string]Point, error) {
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%w: more than %d keys", ErrQuery, maxKeys)
	}
	// Before the table: what leaves recent is in the table by then.
	recent := s.recent.of(device)
	l := latestPoints{points: make(map[string]Point, len(keys)), left: answerBytes}
	if len(keys) == 0 {
		for key, p := range recent {
			if err := l.put(key, p); err != nil {
				return nil, err
			}
		}
		rows, err := s.readers.QueryContext(ctx, `SELECT key, ts, value FROM latest WHERE device = ?`, device)
		if err := l.add(rows, err); err != nil {
			return nil, s.asked(err)
		}
		return l.points, nil
	}
	for _, key := range keys {
		if p, ok := recent[key]; ok {
			if err := l.put(key, p); err != nil {
				return nil, err
			}
		}
		rows, err := s.readers.QueryContext(ctx, `SELECT key, ts, value FROM latest WHERE device = ? AND key = ?`, device, key)
		if err := l.add(rows, err); err != nil {
			return nil, s.asked(err)
		}
	}
	return l.points, nil
}

// latestPoints gathers the newest value of each key.
type latestPoints struct {
	points map[string]Point
	left   budget
}

func (l *latestPoints) put(key string, p Point) error {
	l.points[key] = p
	return l.left.take(len(key) + valueBytes + p.Value.TextSize())
}

// add adds the rows that are newer than what is there.
func (l *latestPoints) add(rows *sql.Rows, err error) error {
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
		if old, ok := l.points[key]; ok && old.TS >= p.TS {
			return nil
		}
		var err error
		if p.Value, err = payload.DecodeValue(value); err != nil {
			return damaged(err)
		}
		return l.put(key, p)
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
// if none is given, sorted by key. Keys that the device lacks are missing. An
// error wraps [ErrQuery] if the answer would be larger than 16 MiB.
func (s *Store) ClientAttributes(ctx context.Context, device string, keys ...string) ([]Attribute, error) {
	rows, err := s.readers.QueryContext(ctx, `SELECT key, ts, value FROM attributes WHERE device = ? ORDER BY key`, device)
	if err != nil {
		return nil, s.explain(err)
	}
	var list []Attribute
	left := budget(answerBytes)
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
		return left.take(len(a.Key) + valueBytes + a.Value.TextSize())
	})
	if err != nil {
		return nil, s.asked(err)
	}
	return list, nil
}
