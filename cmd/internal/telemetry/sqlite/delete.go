package sqlite

import (
	"database/sql"
	"errors"
	"math"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// deleteValues deletes the values of keys in the rows of some times.
func (w tableWriter) deleteValues(r *request) error {
	doomed := make(map[string]bool, len(r.emptied))
	for _, key := range r.emptied {
		doomed[key] = true
	}
	for _, ts := range r.times {
		rows, err := storedRows(w.ctx, w.tx.StmtContext(w.ctx, w.write.get), r.device, ts, -1)
		if err != nil {
			return err
		}
		if err := w.deleteAt(r, ts, rows, doomed); err != nil {
			return err
		}
	}
	return w.change(r.device, r.added)
}

// deleteAt deletes the values of keys in the rows of one time. Unless all of them are empty then,
// empty ones stay, because message looks for row 0.
func (w tableWriter) deleteAt(r *request, ts int64, rows []storedRow, doomed map[string]bool) error {
	var changed []storedRow
	left, size := 0, int64(0)
	for _, row := range rows {
		size += row.size + telemetry.RowBytes
		rest := slices.DeleteFunc(slices.Clone(row.fields), func(f payload.Field) bool { return doomed[f.Key] })
		left += len(rest)
		if len(rest) < len(row.fields) {
			changed = append(changed, storedRow{row.n, row.size, rest})
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if left == 0 {
		r.added -= size
		_, err := w.exec(w.write.deleteAt, r.device, ts)
		return err
	}
	for _, row := range changed {
		if err := w.update(r, ts, row, string(payload.AppendObject(nil, row.fields))); err != nil {
			return err
		}
	}
	return nil
}

// replaceLatest replaces newest values whose messages were deleted. The table latest is up to date.
func (w tableWriter) replaceLatest(r *request) error {
	delete(w.keys, telemetry.AccountOf(r.device)) // because its count is no longer right
	left := make(map[int64]map[string]bool)
	for _, p := range r.renewed {
		var ts int64
		err := w.tx.StmtContext(w.ctx, w.write.timeOf).QueryRowContext(w.ctx, r.device, p.Key).Scan(&ts)
		if errors.Is(err, sql.ErrNoRows) || err == nil && !r.span.Contains(ts) {
			continue
		}
		if err != nil {
			return err
		}
		if _, known := left[ts]; !known {
			if left[ts], err = w.keysAt(r.device, ts); err != nil {
				return err
			}
		}
		if left[ts][p.Key] {
			continue
		}
		if err := w.setLatest(r.device, p); err != nil {
			return err
		}
	}
	return nil
}

// keysAt returns the keys of the messages of one time.
func (w tableWriter) keysAt(device string, ts int64) (map[string]bool, error) {
	rows, err := storedRows(w.ctx, w.tx.StmtContext(w.ctx, w.write.get), device, ts, -1)
	keys := make(map[string]bool)
	for _, row := range rows {
		for _, f := range row.fields {
			keys[f.Key] = true
		}
	}
	return keys, err
}

// setLatest sets the newest value of a key, whatever it is now. The JSON text null stands for none.
func (w tableWriter) setLatest(device string, p telemetry.KeyPoint) error {
	if p.Value.Kind() == 0 && p.TS == math.MinInt64 {
		_, err := w.exec(w.write.forget, device, p.Key)
		return err
	}
	_, err := w.exec(w.write.setLatest, device, p.Key, p.TS, string(p.Value.AppendJSON(nil)))
	return err
}
