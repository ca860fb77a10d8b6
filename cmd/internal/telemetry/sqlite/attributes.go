package sqlite

import (
	"database/sql"
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// attributes sets attributes of a device.
func (w tableWriter) attributes(r *request) error {
	old, err := w.attributeSizes(r)
	if err != nil {
		return err
	}
	total := len(old)
	for _, f := range r.attributes {
		before, known := old[f.Key]
		if !known {
			total++
		}
		r.added += telemetry.AttributeBytes(f.Key, string(f.Value.AppendJSON(nil))) - before
	}
	if total > telemetry.MaxAttributes {
		return &telemetry.PayloadError{Reason: "too many attributes for one device", Quota: true}
	}
	if err := w.admitAttributes(r); err != nil {
		return err
	}
	for _, f := range r.attributes {
		if _, err := w.exec(w.write.attributes(r.scope).set, r.device, f.Key, r.updated, string(f.Value.AppendJSON(nil))); err != nil {
			return err
		}
	}
	return w.change(r.device, r.added)
}

// attributeSizes returns the bytes that the attributes of the device and the scope of r count now.
func (w tableWriter) attributeSizes(r *request) (map[string]int64, error) {
	rows, err := w.tx.StmtContext(w.ctx, w.write.attributes(r.scope).keys).QueryContext(w.ctx, r.device)
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64)
	err = eachRow(rows, func() error {
		var (
			key  string
			size int64
		)
		err := rows.Scan(&key, &size)
		sizes[key] = int64(len(key)) + size + telemetry.RowBytes
		return err
	})
	return sizes, err
}

// admitAttributes refuses attributes that would give a device too many bytes. Those that operators
// set do not count, so that they can still configure a device that is full.
func (w tableWriter) admitAttributes(r *request) error {
	if r.scope != telemetry.ClientScope {
		r.added = 0
		return nil
	}
	if r.added > 0 && w.usage.known[telemetry.AccountOf(r.device)]+r.added > w.opts.MaxBytes {
		return telemetry.TooManyBytes()
	}
	return nil
}

// deleteAttributes deletes attributes of a device.
func (w tableWriter) deleteAttributes(r *request) error {
	for _, key := range r.deleted {
		var size int64
		err := w.tx.StmtContext(w.ctx, w.write.attributes(r.scope).forget).QueryRowContext(w.ctx, r.device, key).Scan(&size)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		if r.scope == telemetry.ClientScope {
			r.added -= int64(len(key)) + size + telemetry.RowBytes
		}
	}
	return w.change(r.device, r.added)
}
