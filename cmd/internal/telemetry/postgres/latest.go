package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// maxRecent is how many keys of a worker may wait for a flush.
const maxRecent = 10_000

const (
	upsertLatest = `INSERT INTO mqtt_auth_proxy.latest (device, key, ts, value)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
		ON CONFLICT (device, key) DO UPDATE SET ts = excluded.ts, value = excluded.value WHERE excluded.ts >= latest.ts`
	deleteNote = `DELETE FROM mqtt_auth_proxy.unflushed WHERE id = $1`

	// takeNotes takes the notes of stores that have not flushed for long, or all.
	takeNotes = `DELETE FROM mqtt_auth_proxy.unflushed WHERE id IN (
			SELECT id FROM mqtt_auth_proxy.unflushed WHERE since <= ` + clock + ` - $1 ORDER BY id FOR UPDATE SKIP LOCKED
		) RETURNING since`
	// replayLatest brings latest up to date with all that was stored since a time.
	replayLatest = `INSERT INTO mqtt_auth_proxy.latest (device, key, ts, value)
		SELECT DISTINCT ON (t.device, f.key) t.device, f.key, t.ts, f.value::text
		FROM mqtt_auth_proxy.telemetry AS t, json_each(t.data::json) AS f
		WHERE t.stored >= $1
		ORDER BY t.device, f.key, t.ts DESC, t.n DESC
		ON CONFLICT (device, key) DO UPDATE SET ts = excluded.ts, value = excluded.value WHERE excluded.ts >= latest.ts`
)

// remember records the newest values of a group that was committed.
func (w *worker) remember(group []*request) {
	for _, r := range group {
		if r.refused != nil {
			continue
		}
		for _, m := range r.rows {
			w.recent.Add(r.device, m.Message)
		}
	}
}

// flush brings the tables latest and usage up to date with what this worker has stored.
func (w *worker) flush(ctx context.Context) error {
	if w.recent.Len() == 0 && w.note == 0 && len(w.usage.pending) == 0 {
		return nil
	}
	var (
		devices, keys, values []string
		times                 []int64
	)
	all := w.recent.All()
	for _, device := range slices.Sorted(maps.Keys(all)) {
		for _, key := range slices.Sorted(maps.Keys(all[device])) {
			p := all[device][key]
			devices, keys = append(devices, device), append(keys, key)
			times, values = append(times, p.TS), append(values, string(p.Value.AppendJSON(nil)))
		}
	}
	accounts, untils, bytes := w.usage.arrays()
	tx := transaction{conn: w.conn}
	err := tx.send(ctx, func(b *pgx.Batch) {
		b.Queue(upsertLatest, devices, keys, times, values)
		b.Queue(addUsage, accounts, untils, bytes)
		b.Queue(deleteNote, w.note)
	})
	if err == nil {
		err = tx.commit(ctx)
	} else {
		tx.rollback(ctx)
	}
	if err != nil {
		return fmt.Errorf("newest values: %w", err)
	}
	w.note = 0
	w.recent.Clear()
	w.usage.pending = nil
	return nil
}

const (
	// abandoned is the age in milliseconds at which another store takes over a note. A running
	// store flushes every two seconds.
	abandoned = 10_000
	// clockSlack is how far the clock of the database may have been set back, in milliseconds.
	clockSlack = 5_000
)

// replay brings the table latest up to date with what others have stored and not flushed for
// so many milliseconds, because they were killed.
func (s *Store) replay(ctx context.Context, c beginner, olderThan int64) error {
	return transact(ctx, c, pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL enable_seqscan = off"}, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, takeNotes, olderThan)
		if err != nil {
			return err
		}
		notes, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil || len(notes) == 0 {
			return err
		}
		_, err = tx.Exec(ctx, replayLatest, slices.Min(notes)-clockSlack)
		return err
	})
}
