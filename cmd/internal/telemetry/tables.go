package telemetry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

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
	r.refused = nil
	var err error
	switch {
	case len(r.attributes) > 0:
		err = w.attributes(r)
	case len(r.rows) == 1:
		err = w.message(r.device, r.rows[0])
	default:
		err = w.messages(r)
	}
	var bad *PayloadError
	if errors.As(err, &bad) {
		r.refused = bad
		return nil
	}
	return err
}

// messages writes several rows so that a refused one takes the others with it.
func (w tableWriter) messages(r *request) error {
	if _, err := w.tx.ExecContext(w.ctx, "SAVEPOINT request"); err != nil {
		return err
	}
	for _, m := range r.rows {
		if err := w.message(r.device, m); err != nil {
			_, undo := w.tx.ExecContext(w.ctx, "ROLLBACK TO request")
			return errors.Join(err, undo)
		}
	}
	_, err := w.tx.ExecContext(w.ctx, "RELEASE request")
	return err
}

func (w tableWriter) message(device string, m row) error {
	result, err := w.exec(w.write.insert, device, m.TS, m.data)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return w.merge(device, m)
}

// merge adds m to the message that has its time already. SQLite's json_patch
// would merge JSON values member by member and drop the nulls in them.
func (w tableWriter) merge(device string, m row) error {
	var stored string
	if err := w.tx.StmtContext(w.ctx, w.write.get).QueryRowContext(w.ctx, device, m.TS).Scan(&stored); err != nil {
		return err
	}
	fields, err := payload.DecodeObject(stored)
	if err != nil {
		return damaged(err)
	}
	merged := string(payload.AppendObject(nil, mergeFields(fields, m.Fields)))
	if len(merged) > max(w.opts.MaxPayload, len(m.data)) {
		return &PayloadError{Reason: "too many values for one timestamp"}
	}
	_, err = w.exec(w.write.update, device, m.TS, merged)
	return err
}

func mergeFields(old, update []payload.Field) []payload.Field {
	place := make(map[string]int, len(old))
	for i, f := range old {
		place[f.Key] = i
	}
	for _, f := range update {
		if i, ok := place[f.Key]; ok {
			old[i].Value = f.Value
		} else {
			old = append(old, f)
		}
	}
	return old
}

// maxAttributes is the most attributes of one device. Nothing else would bound
// them: they have no time at which they end.
const maxAttributes = 1000

func (w tableWriter) attributes(r *request) error {
	fresh := make(map[string]bool, len(r.attributes))
	for _, f := range r.attributes {
		fresh[f.Key] = true
	}
	rows, err := w.tx.StmtContext(w.ctx, w.write.attributes).QueryContext(w.ctx, r.device)
	if err != nil {
		return err
	}
	total := len(r.attributes)
	err = eachRow(rows, func() error {
		var key string
		if err := rows.Scan(&key); err != nil {
			return err
		}
		if !fresh[key] {
			total++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if total > maxAttributes {
		return &PayloadError{Reason: "too many attributes for one device"}
	}
	for _, f := range r.attributes {
		if _, err := w.exec(w.write.attribute, r.device, f.Key, r.ts, string(f.Value.AppendJSON(nil))); err != nil {
			return err
		}
	}
	return nil
}

// note writes which messages the table latest has not seen.
func (w tableWriter) note(batch []*request) error {
	var refs []messageRef
	for _, r := range batch {
		if r.refused != nil {
			continue
		}
		for _, m := range r.rows {
			refs = append(refs, messageRef{r.device, m.TS})
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

// messageRef names a message.
type messageRef struct {
	Device string `json:"d"`
	TS     int64  `json:"t"`
}
