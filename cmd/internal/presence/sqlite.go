package presence

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sqlitefile"
)

const (
	applicationID = 0x4d415053 // "MAPS" in the file's header
	formatVersion = 1

	// lockWait is how long a statement waits for other processes.
	lockWait = 2 * time.Second
)

// sqliteTables holds times in milliseconds since 1970.
const sqliteTables = `
CREATE TABLE devices (
	subject TEXT NOT NULL PRIMARY KEY, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
	address TEXT NOT NULL, connected INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_last_seen ON devices (last_seen);
CREATE INDEX devices_connected ON devices (subject) WHERE connected = 1;
CREATE INDEX devices_away ON devices (subject) WHERE connected = 0;
CREATE TABLE tokens (token_id TEXT NOT NULL PRIMARY KEY, last_seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_last_seen ON tokens (last_seen);
`

// The later sighting decides about address and connection, because another process may have written
// it.
const (
	upsertDevice = `INSERT INTO devices VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
	address = CASE WHEN excluded.last_seen >= last_seen AND excluded.address <> '' THEN excluded.address ELSE address END,
	connected = CASE WHEN excluded.last_seen >= last_seen THEN excluded.connected ELSE connected END,
	first_seen = min(excluded.first_seen, first_seen), last_seen = max(excluded.last_seen, last_seen)`
	upsertToken = `INSERT INTO tokens VALUES (?, ?) ON CONFLICT DO UPDATE SET last_seen = max(excluded.last_seen, last_seen)`
)

// sqliteStore is a store in an SQLite file.
type sqliteStore struct {
	db      *sql.DB // one connection, which writes
	readers *sql.DB
}

// openSQLite opens or creates the file. A damaged one is renamed, which aside reports.
func openSQLite(ctx context.Context, path string, aside func(string, error)) (store, error) {
	s, err := trySQLite(ctx, path)
	if !errors.Is(err, errDamaged) {
		return s, err
	}
	to, asideErr := setAside(path)
	if asideErr != nil {
		return nil, errors.Join(err, asideErr)
	}
	if aside != nil {
		aside(to, err)
	}
	return trySQLite(ctx, path)
}

// setAside renames a damaged file with its log. It replaces one that was renamed earlier.
func setAside(path string) (to string, err error) {
	to = path + ".damaged"
	// A file must not be read with the log of another one.
	for _, end := range []string{"-shm", "-wal", ""} {
		if err := os.Remove(to + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if err := os.Rename(path+end, to+end); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return to, nil
}

func trySQLite(ctx context.Context, path string) (store, error) {
	if err := sqlitefile.Create(path); err != nil {
		return nil, err
	}
	// The data survives the end of the process. A loss of power may lose the last writes.
	db, err := sqlitefile.Connect(path, "rw", 1, lockWait, "journal_mode(wal)", "synchronous(normal)", "journal_size_limit(8388608)")
	if err != nil {
		return nil, explain(path, err)
	}
	s := &sqliteStore{db: db}
	if s.readers, err = sqlitefile.Connect(path, "ro", 2, lockWait); err == nil {
		err = s.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(explain(path, err), s.close())
	}
	return s, nil
}

// prepare makes the tables of a new file, and refuses one of another program or version before it
// changes anything.
func (s *sqliteStore) prepare(ctx context.Context) error {
	var id, version, tables int
	err := s.readers.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return err
	case id == 0 && version == 0 && tables == 0:
		return s.transact(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d", sqliteTables, applicationID, formatVersion))
			return err
		})
	case id != applicationID:
		return errors.New("it belongs to another program; move it away")
	case version != formatVersion:
		return fmt.Errorf("it has format %d, and this version of the program reads format %d; run the version that made it, or move the file away", version, formatVersion)
	}
	// A process that was killed may have left rows of devices that say connected.
	_, err = s.db.ExecContext(ctx, "UPDATE devices SET connected = 0 WHERE connected = 1")
	return err
}

// transact runs f in a transaction and commits it, or rolls it back.
func (s *sqliteStore) transact(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return damage(err)
	}
	defer func() { _ = tx.Rollback() }() // fails after Commit
	if err := f(tx); err != nil {
		return damage(err)
	}
	return damage(tx.Commit())
}

// write implements store. The rows are written in the order of the tables, which touches fewer
// pages.
func (s *sqliteStore) write(ctx context.Context, b *batch) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		device, err := tx.PrepareContext(ctx, upsertDevice)
		if err != nil {
			return err
		}
		defer func() { _ = device.Close() }()
		for _, d := range b.sortedDevices() {
			if _, err := device.ExecContext(ctx, d.subject, d.first, d.last, d.address(), d.connected); err != nil {
				return err
			}
		}
		token, err := tx.PrepareContext(ctx, upsertToken)
		if err != nil {
			return err
		}
		defer func() { _ = token.Close() }()
		for _, id := range b.sortedTokens() {
			if _, err := token.ExecContext(ctx, id, b.tokens[id]); err != nil {
				return err
			}
		}
		return nil
	})
}

// prune implements store.
func (s *sqliteStore) prune(ctx context.Context, most int) error {
	for _, table := range []struct{ name, key string }{{"devices", "subject"}, {"tokens", "token_id"}} {
		var n int
		if err := s.readers.QueryRowContext(ctx, "SELECT count(*) FROM "+table.name).Scan(&n); err != nil {
			return damage(err)
		}
		if n <= most {
			continue
		}
		_, err := s.db.ExecContext(ctx, fmt.Sprintf("DELETE FROM %[1]s WHERE %[2]s IN (SELECT %[2]s FROM %[1]s ORDER BY last_seen LIMIT ?)", table.name, table.key), n-most)
		if err != nil {
			return damage(err)
		}
	}
	return nil
}

const selectDevices = "SELECT subject, first_seen, last_seen, address, connected FROM devices "

// page implements store.
func (s *sqliteStore) page(ctx context.Context, k kind, after string, limit int) ([]Device, error) {
	only := [...]string{everyDevice: "", connectedDevices: "AND connected = 1 ", awayDevices: "AND connected = 0 "}[k]
	return s.devices(ctx, selectDevices+"WHERE subject > ? "+only+"ORDER BY subject LIMIT ?", after, limit)
}

// lookup implements store.
func (s *sqliteStore) lookup(ctx context.Context, subjects []string) ([]Device, error) {
	return s.devices(ctx, selectDevices+"WHERE subject IN "+placeholders(len(subjects)), values(subjects)...)
}

func (s *sqliteStore) devices(ctx context.Context, query string, args ...any) ([]Device, error) {
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Device
	for rows.Next() {
		var (
			d           Device
			first, last int64
		)
		if err := rows.Scan(&d.Subject, &first, &last, &d.Address, &d.Connected); err != nil {
			return nil, err
		}
		d.FirstSeen, d.LastSeen = fromMillis(first), fromMillis(last)
		list = append(list, d)
	}
	return list, rows.Err()
}

// fewTokens is the largest number of token ids that are looked up one by one. For more of them it
// is faster to read all rows.
const fewTokens = 2000

// tokens implements store.
func (s *sqliteStore) tokens(ctx context.Context, ids []string) (map[string]time.Time, error) {
	query, args := "SELECT token_id, last_seen FROM tokens", []any(nil)
	if len(ids) <= fewTokens {
		query, args = query+" WHERE token_id IN "+placeholders(len(ids)), values(ids)
	}
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	seen := make(map[string]time.Time)
	for rows.Next() {
		var (
			id string
			at int64
		)
		if err := rows.Scan(&id, &at); err != nil {
			return nil, err
		}
		seen[id] = fromMillis(at)
	}
	return seen, rows.Err()
}

// placeholders returns a list of n parameters in SQL.
func placeholders(n int) string { return "(" + strings.TrimSuffix(strings.Repeat("?,", n), ",") + ")" }

func values(texts []string) []any {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return list
}

// close implements store.
func (s *sqliteStore) close() error { return sqlitefile.Close(s.readers, s.db, nil) }

// damage wraps an error that says that the file is damaged.
func damage(err error) error {
	if sqlitefile.Damaged(err) {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return err
}

// explain adds the file to an error.
func explain(path string, err error) error { return fmt.Errorf("%s: %w", path, damage(err)) }

// sortedDevices returns the devices in the order of their subjects.
func (b *batch) sortedDevices() []sighting {
	list := make([]sighting, 0, len(b.devices))
	for _, s := range b.devices {
		list = append(list, s)
	}
	slices.SortFunc(list, func(x, y sighting) int { return cmp.Compare(x.subject, y.subject) })
	return list
}

// sortedTokens returns the token ids in order.
func (b *batch) sortedTokens() []string {
	list := make([]string, 0, len(b.tokens))
	for id := range b.tokens {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}
