package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// tableWriter writes the requests of one transaction.
type tableWriter struct {
	*Store
	ctx context.Context
	tx  *sql.Tx
}

func (w tableWriter) exec(stmt *sql.Stmt, args ...any) (sql.Result, error) {
	return w.tx.StmtContext(w.ctx, stmt).ExecContext(w.ctx, args...)
}

// request writes r, or sets r.refused and leaves the tables as they were.
func (w tableWriter) request(r *request) error {
	var err error
	r.added = 0
	switch {
	case len(r.parts) > 0:
		err = w.parts(r)
	case len(r.children) > 0:
		err = w.numberChildren(r)
	case len(r.attributes) > 0:
		err = w.attributes(r)
	case len(r.deleted) > 0:
		err = w.deleteAttributes(r)
	case len(r.emptied) > 0:
		err = w.deleteValues(r)
	case len(r.renewed) > 0:
		err = w.replaceLatest(r)
	case len(r.rows) == 1:
		err = w.message(r, r.rows[0])
	default:
		err = w.messages(r)
	}
	var bad *telemetry.PayloadError
	switch {
	case errors.As(err, &bad):
		r.refused = bad
	case errors.Is(err, errDamaged): // a row of this device
		r.refused = w.explain(err)
	default:
		return err
	}
	return nil
}

// parts writes the parts of a request, or none if one is refused.
func (w tableWriter) parts(r *request) error {
	if _, err := w.tx.ExecContext(w.ctx, "SAVEPOINT parts"); err != nil {
		return err
	}
	for _, p := range r.parts {
		if err := w.request(p); err != nil {
			return err
		}
		if p.refused != nil {
			r.refused = p.refused
			if _, err := w.tx.ExecContext(w.ctx, "ROLLBACK TO parts"); err != nil {
				return err
			}
			break
		}
	}
	_, err := w.tx.ExecContext(w.ctx, "RELEASE parts")
	return err
}

// messages writes several rows, or none if one is refused.
func (w tableWriter) messages(r *request) error {
	if _, err := w.tx.ExecContext(w.ctx, "SAVEPOINT request"); err != nil {
		return err
	}
	for _, m := range r.rows {
		if err := w.message(r, m); err != nil {
			_, undo := w.tx.ExecContext(w.ctx, "ROLLBACK TO request")
			return errors.Join(err, undo)
		}
	}
	_, err := w.tx.ExecContext(w.ctx, "RELEASE request")
	return err
}

// message writes m as a row of its own. If m has the device's own time and there are rows of
// that time, it replaces values in them instead.
func (w tableWriter) message(r *request, m row) error {
	result, err := w.exec(w.write.insert, r.device, m.TS, m.data)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 && !m.Arrived {
		return w.merge(r, m)
	}
	if err == nil && n == 0 {
		_, err = w.exec(w.write.insertNext, r.device, m.TS, m.data)
	}
	r.added += telemetry.MessageBytes(m.data)
	return err
}

// mergedRows is in how many rows of one time a message replaces values. There are more only if
// a device sends that many messages in a millisecond.
const mergedRows = 64

// merge adds m to the newest row of its time and removes its keys from the others. SQLite's
// json_patch would merge JSON values member by member and drop the nulls in them.
func (w tableWriter) merge(r *request, m row) error {
	rows, err := storedRows(w.ctx, w.tx.StmtContext(w.ctx, w.write.get), r.device, m.TS, mergedRows)
	if err != nil {
		return err
	}
	newest := rows[0]
	newest.fields = payload.Merge(newest.fields, m.Fields)
	data := string(payload.AppendObject(nil, newest.fields))
	if len(data) > max(telemetry.MaxPayload, len(m.data)) {
		return &telemetry.PayloadError{Reason: "too many values for one timestamp"}
	}
	if err := w.update(r, m.TS, newest, data); err != nil {
		return err
	}
	replaced := make(map[string]bool, len(m.Fields))
	for _, f := range m.Fields {
		replaced[f.Key] = true
	}
	for _, older := range rows[1:] {
		rest := slices.DeleteFunc(slices.Clone(older.fields), func(f payload.Field) bool { return replaced[f.Key] })
		if len(rest) == len(older.fields) {
			continue
		}
		// An empty row stays, because message looks for row 0.
		if err := w.update(r, m.TS, older, string(payload.AppendObject(nil, rest))); err != nil {
			return err
		}
	}
	return nil
}

// update replaces the data of a row.
func (w tableWriter) update(r *request, ts int64, old storedRow, data string) error {
	r.added += int64(len(data)) - old.size
	_, err := w.exec(w.write.update, r.device, ts, old.n, data)
	return err
}

// storedRow is a message as it is stored.
type storedRow struct {
	n      int64 // its number among those of its time
	size   int64 // bytes of its data
	fields []payload.Field
}

// storedRows returns the rows of one time, the newest first: at most limit, or all if that is
// negative. get is the statement of that name.
func storedRows(ctx context.Context, get *sql.Stmt, device string, ts int64, limit int) ([]storedRow, error) {
	rows, err := get.QueryContext(ctx, device, ts, limit)
	if err != nil {
		return nil, err
	}
	var list []storedRow
	err = eachRow(rows, func() error {
		var (
			r    storedRow
			data string
		)
		if err := rows.Scan(&r.n, &data); err != nil {
			return err
		}
		var err error
		if r.fields, err = payload.DecodeObject(data); err != nil {
			return damaged(err)
		}
		r.size = int64(len(data))
		list = append(list, r)
		return nil
	})
	return list, err
}

// note writes down which messages of a batch are not in the table latest.
func (w tableWriter) note(batch []*request) error {
	var refs []messageRef
	for _, r := range batch {
		if r.refused != nil {
			continue
		}
		for _, p := range r.each() {
			for _, m := range p.rows {
				if n := len(refs); n == 0 || refs[n-1].Device != p.device || refs[n-1].TS != m.TS {
					refs = append(refs, messageRef{Device: p.device, TS: m.TS})
				}
			}
			if len(p.rows) > 0 {
				refs[len(refs)-1].Bytes += p.added
			}
		}
	}
	if len(refs) == 0 {
		return nil
	}
	list, err := json.Marshal(refs)
	if err != nil {
		return err
	}
	_, err = w.exec(w.write.note, string(list))
	return err
}

// messageRef names the messages of a device and a millisecond.
type messageRef struct {
	Device string `json:"d"`
	TS     int64  `json:"t"`
	// Bytes is what this and the messages before it have added to the bytes of their account.
	Bytes int64 `json:"b,omitempty"`
}
