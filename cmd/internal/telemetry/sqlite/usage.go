package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// usage bounds the bytes of each account, see telemetry.AccountOf. The table usage has what the
// table latest is up to date with; for what came later, the notes in unflushed have the bytes. The
// writing goroutine owns it. The zero usage knows nothing and asks the table.
type usage struct {
	// known is how many bytes accounts have, with those of messages that are admitted.
	known map[string]int64
	// pending is what the next flush adds to the table.
	pending map[string]int64
}

const createUsage = `CREATE TABLE usage (account TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (account)) STRICT, WITHOUT ROWID`

// measure makes the table usage in a database that lacks it. This reads the sizes of all messages,
// once for a database of an older version.
func (s *Store) measure(ctx context.Context) error {
	var made bool
	err := s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'usage')`).Scan(&made)
	if err != nil || made {
		return err
	}
	return s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, createUsage); err != nil {
			return err
		}
		accounts := make(map[string]int64)
		rows, err := tx.QueryContext(ctx, `SELECT device, sum(octet_length(data) + ?1) FROM telemetry GROUP BY device
			UNION ALL SELECT device, sum(octet_length(key) + octet_length(value) + ?1) FROM attributes GROUP BY device`, telemetry.RowBytes)
		if err != nil {
			return err
		}
		err = eachRow(rows, func() error {
			var (
				device string
				bytes  int64
			)
			err := rows.Scan(&device, &bytes)
			accounts[telemetry.AccountOf(device)] += bytes
			return err
		})
		if err != nil {
			return err
		}
		for account, bytes := range accounts {
			if _, err := tx.ExecContext(ctx, `INSERT INTO usage (account, bytes) VALUES (?, ?)`, account, bytes); err != nil {
				return err
			}
		}
		return nil
	})
}

// admitBytes counts the rows of r as if each were a new one. It returns a refusal if their account
// would have too many bytes.
func (s *Store) admitBytes(r *request) error {
	r.reserved = 0
	if len(r.rows)+len(r.attributes) == 0 {
		return nil
	}
	account := telemetry.AccountOf(r.device)
	if err := s.knowBytes(account); err != nil {
		return err
	}
	var more int64
	for _, m := range r.rows {
		more += telemetry.MessageBytes(m.data)
	}
	if len(r.rows) > 0 && s.usage.known[account]+more > s.opts.MaxBytes {
		return telemetry.TooManyBytes()
	}
	s.usage.known[account] += more
	r.reserved = more
	return nil
}

// knowBytes makes the bytes of an account known.
func (s *Store) knowBytes(account string) error {
	if _, ok := s.usage.known[account]; ok {
		return nil
	}
	var n int64
	err := s.write.usageOf.QueryRowContext(context.Background(), account).Scan(&n)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if s.usage.known == nil {
		s.usage.known = make(map[string]int64)
	}
	n += s.usage.pending[account]
	if n != 0 {
		if n, err = s.correctBytes(account, n); err != nil {
			return err
		}
	}
	s.usage.known[account] = n
	return nil
}

// correctBytes returns the bytes of an account of which so many are counted. An older version may
// have written to the database meanwhile, and does not count. So an account that has no messages gets
// the bytes of its attributes. Otherwise it might be full for ever.
func (s *Store) correctBytes(account string, counted int64) (bytes int64, err error) {
	first, last := account, account
	if isFamily(account) {
		last = account + ":" // follows the digits that end the name of a child
	}
	var some bool
	err = s.write.hasMessages.QueryRowContext(context.Background(), first, last).Scan(&some)
	if err != nil || some {
		return counted, err
	}
	err = s.write.attributeBytes.QueryRowContext(context.Background(), first, last, telemetry.RowBytes).Scan(&bytes)
	if err != nil || bytes == counted {
		return bytes, err
	}
	_, err = s.write.changeUsage.ExecContext(context.Background(), account, bytes-counted)
	return bytes, err
}

// settle replaces what was counted for a batch that is committed by what it has changed.
func (u *usage) settle(batch []*request) {
	for _, r := range batch {
		for _, p := range r.each() {
			account := telemetry.AccountOf(p.device)
			change := p.added
			if r.refused != nil {
				change = 0
			}
			if _, ok := u.known[account]; ok {
				u.known[account] += change - p.reserved
			}
			if len(p.rows) > 0 { // the table has what other requests change
				u.add(p.device, change)
			}
		}
	}
}

// add leaves bytes of a device to the next flush.
func (u *usage) add(device string, bytes int64) {
	if bytes == 0 {
		return
	}
	if u.pending == nil {
		u.pending = make(map[string]int64)
	}
	u.pending[telemetry.AccountOf(device)] += bytes
}

// change adds to the bytes of the account of a device in the table.
func (w tableWriter) change(device string, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	_, err := w.exec(w.write.changeUsage, telemetry.AccountOf(device), bytes)
	return err
}

// deleteMessages runs a statement that deletes messages of a device before or after a time, and
// about limit of them, and returns how many these were.
func (w tableWriter) deleteMessages(stmt *sql.Stmt, device string, cutoff, limit int64) (deleted int64, err error) {
	rows, err := w.tx.StmtContext(w.ctx, stmt).QueryContext(w.ctx, device, cutoff, limit)
	if err != nil {
		return 0, err
	}
	var bytes int64
	err = eachRow(rows, func() error {
		var size int64
		err := rows.Scan(&size)
		deleted++
		bytes += size + telemetry.RowBytes
		return err
	})
	if err != nil || deleted == 0 {
		return deleted, err
	}
	account := telemetry.AccountOf(device)
	delete(w.usage.known, account)
	if err := w.change(device, -bytes); err != nil {
		return deleted, err
	}
	_, err = w.exec(w.write.endUsage, account)
	return deleted, err
}
