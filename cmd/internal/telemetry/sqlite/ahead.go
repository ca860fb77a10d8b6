package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// aheadCutoff returns the time after which retention deletes messages: they were stored by
// versions without telemetry.MaxAhead, or before the clock was set back. A clock that is wrong
// by less than the retention deletes nothing. ok is false if the clock is not set.
func (s *Store) aheadCutoff(now time.Time) (cutoff int64, ok bool) {
	return now.Add(max(s.opts.Retention, telemetry.MaxAhead)).UnixMilli(), telemetry.ClockIsSet(now)
}

// pruneAhead deletes at most limit messages of the device after the cutoff. Once there are no
// more it finds the newest values anew.
func (s *Store) pruneAhead(ctx context.Context, tx *sql.Tx, device string, cutoff, limit int64) (deleted int64, err error) {
	result, err := tx.StmtContext(ctx, s.write.pruneAhead).ExecContext(ctx, device, cutoff, limit)
	if err != nil {
		return 0, err
	}
	if deleted, err = result.RowsAffected(); err != nil || deleted >= limit {
		return deleted, err
	}
	rows, err := tx.StmtContext(ctx, s.write.latestAhead).QueryContext(ctx, device, cutoff)
	if err != nil {
		return deleted, err
	}
	var keys []string
	err = eachRow(rows, func() error {
		var key string
		err := rows.Scan(&key)
		keys = append(keys, key)
		return err
	})
	if err != nil || len(keys) == 0 {
		return deleted, err
	}
	return deleted, s.renewLatest(ctx, tx, device, keys)
}

// renewedRows is how many messages of a device are searched for values that are now the newest.
// A key that is in none of them has no newest value until the device sends it again.
const renewedRows = 5000

// renewLatest sets the newest values of keys from the messages that are left.
func (s *Store) renewLatest(ctx context.Context, tx *sql.Tx, device string, keys []string) error {
	for _, key := range keys {
		if _, err := tx.StmtContext(ctx, s.write.forget).ExecContext(ctx, device, key); err != nil {
			return err
		}
	}
	rows, err := tx.StmtContext(ctx, s.write.newest).QueryContext(ctx, device, renewedRows)
	if err != nil {
		return err
	}
	found := make(map[string]telemetry.Point)
	err = eachRow(rows, func() error {
		var (
			ts   int64
			data string
		)
		if err := rows.Scan(&ts, &data); err != nil {
			return err
		}
		fields, err := payload.DecodeObject(data)
		if err != nil {
			return damaged(err)
		}
		for _, f := range fields {
			if _, known := found[f.Key]; !known && slices.Contains(keys, f.Key) {
				found[f.Key] = telemetry.Point{TS: ts, Value: f.Value.Clone()}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for key, p := range found {
		if _, err := tx.StmtContext(ctx, s.write.latest).ExecContext(ctx, device, key, p.TS, string(p.Value.AppendJSON(nil))); err != nil {
			return err
		}
	}
	return nil
}
