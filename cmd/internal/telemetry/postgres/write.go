package postgres

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	insertRows = `INSERT INTO mqtt_auth_proxy.telemetry (device, ts, n, data, stored)
		SELECT device, ts, n, data, (SELECT ` + clock + `) FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::text[]) AS r (device, ts, n, data)`
	insertMissing = insertRows + ` ON CONFLICT DO NOTHING`
	insertNoted   = `WITH rows AS (` + insertRows + `) ` + insertNote
	updateRows    = `UPDATE mqtt_auth_proxy.telemetry AS t SET data = r.data, stored = (SELECT ` + clock + `)
		FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::text[]) AS r (device, ts, n, data)
		WHERE t.device = r.device AND t.ts = r.ts AND t.n = r.n`
	// lookUpRows returns the newest rows of each place, as many as most says, and locks them.
	lookUpRows = `SELECT p.at::integer, r.n, r.data
		FROM unnest($1::text[], $2::bigint[], $3::integer[]) WITH ORDINALITY AS p (device, ts, most, at),
		LATERAL (
			SELECT n, data FROM mqtt_auth_proxy.telemetry AS t
			WHERE t.device = p.device AND t.ts = p.ts ORDER BY n DESC LIMIT p.most FOR UPDATE
		) AS r`
	insertNote = `INSERT INTO mqtt_auth_proxy.unflushed (since) VALUES (` + clock + `) RETURNING id`

	// TABLE stands for the table of a scope.
	countAttributes = `SELECT device, count(*) FROM (
			SELECT device, key FROM TABLE WHERE device = ANY ($1)
			UNION SELECT device, key FROM unnest($1::text[], $2::text[]) AS r (device, key)
		) AS all_keys GROUP BY device`
	// sizeAttributes returns the bytes of those attributes that there are, each with $3 more.
	sizeAttributes = `SELECT t.device, sum(octet_length(t.key) + octet_length(t.value) + $3::bigint)::bigint
		FROM TABLE AS t JOIN unnest($1::text[], $2::text[]) AS r (device, key) ON t.device = r.device AND t.key = r.key GROUP BY t.device`
	deleteAttributes = `DELETE FROM TABLE AS t USING unnest($1::text[], $2::text[]) AS r (device, key)
		WHERE t.device = r.device AND t.key = r.key RETURNING t.device, octet_length(t.key) + octet_length(t.value) + $3::bigint`
	upsertAttributes = `INSERT INTO TABLE (device, key, ts, value)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
		ON CONFLICT (device, key) DO UPDATE SET ts = excluded.ts, value = excluded.value`
)

// errTaken says that there is a row at the place of one of the group that the plan does not know.
var errTaken = errors.New("a row is there already")

// errRefused says that a part of a request of the group is refused, so that the plan is not to have
// the other parts either.
var errRefused = errors.New("a part is refused")

const (
	// mostAttempts bounds how often a group is tried while other stores write at the same places,
	// or make partitions.
	mostAttempts = 20
	// careful is how long a worker looks for rows before it stores, after one was there. A
	// statement that fails costs more, and PostgreSQL logs it.
	careful = 10 * time.Second
)

// store stores a group in one transaction, and sets refused for requests that can never be.
func (w *worker) store(ctx context.Context, group []*request) error {
	if w.recent.Len() >= maxRecent || slices.ContainsFunc(group, func(r *request) bool { return len(r.renewed) > 0 }) {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	parts := partsOf(group)
	if err := w.admit(ctx, parts); err != nil {
		return err
	}
	refuseWhole(parts)
	w.background(w.cover(ctx, w.conn, parts))
	for range mostAttempts {
		err := w.attempt(ctx, parts)
		if err == nil {
			w.counters.commits.Add(1)
			w.remember(parts)
			return nil
		}
		switch {
		case errors.Is(err, errRefused):
		case errors.Is(err, errTaken):
			w.careful = time.Now().Add(careful)
		case !isNewPartition(err):
			return err
		}
	}
	return errTaken
}

// isNewPartition reports whether a row was on its way to the default partition while another store
// made a partition for it. The next attempt finds that.
func isNewPartition(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == checkViolation && e.TableName == "telemetry_default"
}

// attempt stores a group, or nothing and returns errTaken or errRefused.
func (w *worker) attempt(ctx context.Context, group []*request) error {
	p := plan{rows: make(map[place][]stored, len(group)), unsure: w.unsure}
	if w.unsure || slices.ContainsFunc(group, (*request).ofOtherTables) || time.Now().Before(w.careful) {
		return w.insertLookingUp(ctx, group, &p)
	}
	p.add(group)
	if refuseWhole(group) {
		return errRefused
	}
	if err := w.insert(ctx, &p); err != nil {
		return err
	}
	w.settle(group, p.growth)
	return nil
}

// insert stores the rows of a plan that knows of none with a single statement.
func (w *worker) insert(ctx context.Context, p *plan) error {
	a, _ := p.changes()
	if len(a.data) == 0 {
		return nil
	}
	var err error
	if w.note == 0 {
		err = w.conn.QueryRow(ctx, insertNoted, a.devices, a.times, a.numbers, a.data).Scan(&w.note)
	} else {
		_, err = w.conn.Exec(ctx, insertRows, a.devices, a.times, a.numbers, a.data)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == uniqueViolation {
		return errTaken
	}
	w.unsure = err != nil && w.conn.IsClosed()
	return err
}

const uniqueViolation, checkViolation = "23505", "23514"

// insertLookingUp stores a group in a transaction that first looks for the rows that are there.
func (w *worker) insertLookingUp(ctx context.Context, group []*request, p *plan) error {
	tx := transaction{conn: w.conn, full: w.isFull}
	note, err := w.fill(ctx, &tx, group, p)
	if err != nil {
		tx.rollback(ctx)
		return err
	}
	if err := tx.commit(ctx); err != nil {
		w.unsure = true
		return err
	}
	w.settle(group, p.growth)
	if note != 0 {
		w.note = note
	}
	return nil
}

// fill does all of a transaction but its end. It returns the id of a new note that the table
// latest does not have what is stored, 0 if there is no new one.
func (w *worker) fill(ctx context.Context, tx *transaction, group []*request, p *plan) (note int64, err error) {
	if err := tx.lookUp(ctx, group, p); err != nil {
		return 0, err
	}
	p.add(group)
	if note, err = tx.messages(ctx, p, w.note == 0); err != nil {
		return 0, err
	}
	if err := tx.attributes(ctx, group, p); err != nil {
		return 0, err
	}
	if refuseWhole(group) {
		return 0, errRefused
	}
	return note, tx.deletions(ctx, group, p)
}

// transaction is one that begins with its first statement.
type transaction struct {
	conn  *pgx.Conn
	begun bool
	full  func(device string, more int64) bool // whether a device cannot have so many bytes more
}

// send sends a batch of statements, before the first one also BEGIN.
func (t *transaction) send(ctx context.Context, queue func(*pgx.Batch)) error {
	b := new(pgx.Batch)
	if !t.begun {
		b.Queue("BEGIN")
		t.begun = true
	}
	queue(b)
	return t.conn.SendBatch(ctx, b).Close()
}

func (t *transaction) rollback(ctx context.Context) {
	if t.begun && !t.conn.IsClosed() {
		_, _ = t.conn.Exec(ctx, "ROLLBACK") // the connection may be gone
	}
}

func (t *transaction) commit(ctx context.Context) error {
	if !t.begun {
		return nil
	}
	tag, err := t.conn.Exec(ctx, "COMMIT")
	if err == nil && tag.String() != "COMMIT" {
		return errors.New("the transaction was rolled back")
	}
	return err
}

// lookUp adds the rows that are there to the plan, and locks them.
func (t *transaction) lookUp(ctx context.Context, group []*request, p *plan) error {
	most := make(map[place]int32)
	for _, r := range group {
		for _, m := range r.rows {
			limit := int32(1) // of a message that arrived, only the next number matters
			if !m.Arrived || p.unsure {
				limit = mergedRows
			}
			at := place{r.device, m.TS}
			most[at] = max(most[at], limit)
		}
	}
	if len(most) == 0 {
		return nil
	}
	places := slices.SortedFunc(maps.Keys(most), place.compare)
	var (
		a      arrays
		limits []int32
	)
	for _, at := range places {
		a.add(at, stored{})
		limits = append(limits, most[at])
	}
	return t.send(ctx, func(b *pgx.Batch) {
		b.Queue(lookUpRows, a.devices, a.times, limits).Query(func(rows pgx.Rows) error {
			var (
				at int
				s  stored
			)
			_, err := pgx.ForEachRow(rows, []any{&at, &s.n, &s.data}, func() error {
				s.size = int64(len(s.data))
				// The newest row comes first.
				p.rows[places[at-1]] = slices.Insert(p.rows[places[at-1]], 0, s)
				return nil
			})
			return err
		})
	})
}

// messages writes the rows of a plan, and a note if it is wanted and there are rows.
func (t *transaction) messages(ctx context.Context, p *plan, noted bool) (note int64, err error) {
	inserts, updates := p.changes()
	if len(inserts.data)+len(updates.data) == 0 {
		return 0, nil
	}
	return note, t.send(ctx, func(b *pgx.Batch) {
		for _, write := range []struct {
			statement string
			rows      arrays
		}{{insertMissing, inserts}, {updateRows, updates}} {
			a := write.rows
			if len(a.data) == 0 {
				continue
			}
			b.Queue(write.statement, a.devices, a.times, a.numbers, a.data).Exec(func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() != int64(len(a.data)) {
					return errTaken
				}
				return nil
			})
		}
		if noted {
			b.Queue(insertNote).QueryRow(func(row pgx.Row) error { return row.Scan(&note) })
		}
	})
}
