package sqlite

import (
	"math"
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
func (w tableWriter) pruneAhead(device string, cutoff, limit int64) (deleted int64, err error) {
	if deleted, err = w.deleteMessages(w.write.pruneAhead, device, cutoff, limit); err != nil || deleted >= limit {
		return deleted, err
	}
	rows, err := w.tx.StmtContext(w.ctx, w.write.latestAhead).QueryContext(w.ctx, device, cutoff)
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
	return deleted, w.renewLatest(device, keys)
}

// renewedRows is how many messages of a device are searched for values that are now the newest. A
// key that is in none of them has no newest value until the device sends it again.
const renewedRows = 5000

// renewLatest sets the newest values of keys from the messages that are left.
func (w tableWriter) renewLatest(device string, keys []string) error {
	found, bound, err := w.newest(device, keys)
	if err != nil {
		return err
	}
	for _, key := range keys {
		p, ok := found[key]
		if !ok {
			p.TS = bound
		}
		if err := w.setLatest(device, telemetry.KeyPoint{Key: key, Point: p}); err != nil {
			return err
		}
	}
	return nil
}

// newest returns the newest values of keys. Those that it has not found may be in messages up to
// bound, which is math.MinInt64 if there are no more messages.
func (w tableWriter) newest(device string, keys []string) (found map[string]telemetry.Point, bound int64, err error) {
	rows, err := w.tx.StmtContext(w.ctx, w.write.newest).QueryContext(w.ctx, device, renewedRows)
	if err != nil {
		return nil, 0, err
	}
	found = make(map[string]telemetry.Point)
	n := 0
	err = eachRow(rows, func() error {
		var data string
		if err := rows.Scan(&bound, &data); err != nil {
			return err
		}
		n++
		fields, err := payload.DecodeObject(data)
		if err != nil {
			return damaged(err)
		}
		for _, f := range fields {
			if _, known := found[f.Key]; !known && slices.Contains(keys, f.Key) {
				found[f.Key] = telemetry.Point{TS: bound, Value: f.Value.Clone()}
			}
		}
		return nil
	})
	if n < renewedRows {
		bound = math.MinInt64
	}
	return found, bound, err
}
